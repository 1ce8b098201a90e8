"""Frames from NIfTI files: grey, RGB, and stacks of either; compressed or not, one file or a folder of them."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lap_monai.checks import UserError
from lap_monai.data import natural_key
from lap_monai.data.image_files import MOST_PIXELS
from lap_monai.inference.frames import SUFFIXES as PICTURES
from lap_monai.inference.nifti_layout import NiftiLayout, find_layout
from lap_monai.inference.source import Failure, Item, Pixels, SourceFormat, distinct_names, register_source

#: Key of `Item.meta` under which the NIfTI writer finds a `NiftiFrame`.
NIFTI = "nifti"

_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True, eq=False)
class NiftiGrid:
    """What the labels of a NIfTI file need of it.

    Args:
        name: what the file of labels is called, without a suffix.
        layout: where frames lie in the array.
        image: the file, header only. Nothing of it but its geometry goes into other files by default.
    """

    name: str
    layout: NiftiLayout
    image: Any


@dataclass(frozen=True, eq=False)
class NiftiFrame:
    """Where a frame comes from: its file, and its place in the stack."""

    grid: NiftiGrid
    frame: int


class NiftiSource:
    """Frames of NIfTI files in the order of their names.

    Values: 8-bit integers are taken as they are. Other types hold frames if all their values (scaled as the header
    says) lie in 0..255, or, for floats, in 0..1; a file of anything else, a CT for example, is refused. What the rules
    of `nifti_layout` make of a shape is said in a warning where it could have been meant otherwise.

    A frame at a time is in memory. A compressed file is unpacked to a temporary one beside which it can be read in any
    order; the disk has to have the room.

    Args:
        path: a `.nii` or `.nii.gz` file, or a folder of them (searched in full). A file of a folder that cannot be read
            is a `Failure`.

    Raises:
        UserError: if there is none, or the only one is damaged or holds no frames.
    """

    kind = "nifti"
    fps: float | None = None

    def __init__(self, path: str | Path) -> None:
        root = Path(path)
        self._files = [root] if root.is_file() else _files_in(root)
        if not self._files:
            raise UserError(f"The folder {str(root)!r} holds no NIfTI file (.nii, .nii.gz); name another.")
        self._names = _names_of(self._files, root) if root.is_dir() else [""]
        self._layouts = [_try_to_read(file) for file in self._files]
        if len(self._files) == 1 and isinstance(self._layouts[0], str):
            raise UserError(f"{str(self._files[0])!r} {self._layouts[0]}.")
        self.total: int | None = sum(map(_count, self._layouts))
        self.fingerprint = _fingerprint(self._files)
        layouts = [layout for layout in self._layouts if isinstance(layout, NiftiLayout)]
        for assumed in dict.fromkeys(str(layout) for layout in layouts if len(layout.shape) > 2):
            warnings.warn(f"NIfTI frames are read so: {assumed}.", stacklevel=2)

    def items(self, start: int = 0) -> Iterator[Item | Failure]:
        """Yield the frames from index `start` on."""
        first = 0
        for file, name, layout in zip(self._files, self._names, self._layouts, strict=True):
            if first + _count(layout) > start:
                if isinstance(layout, str):
                    yield Failure(name, first, layout)
                else:
                    yield from self._items_of(file, name, layout, first, max(start - first, 0))
            first += _count(layout)

    def _items_of(self, file: Path, name: str, layout: NiftiLayout, first: int, start: int) -> Iterator[Item | Failure]:
        def named(frame: int) -> str:
            return "/".join(part for part in (name, f"{frame:06d}") if part) if layout.frames > 1 or not name else name

        try:
            with _unpacked(file) as (image, data):
                top = _top_value(data, layout)
                grid = NiftiGrid(name or "labels", layout, image)
                for frame in range(start, layout.frames):
                    pixels = _to_rgb(data[layout.index(frame)], top, layout)
                    yield Item(named(frame), first + frame, pixels, meta={NIFTI: NiftiFrame(grid, frame)})
        except UserError as error:  # of the file's content; its other frames are as bad
            for frame in range(start, layout.frames):
                yield Failure(named(frame), first + frame, str(error))


def is_nifti(path: Path) -> bool:
    """Whether this is a NIfTI file by its name, or a folder that begins with such files and no pictures."""
    if path.is_dir():
        some = list(islice(_walk(path), 100))
        return any(map(_is_named, some)) and not any(file.suffix.lower() in PICTURES for file in some)
    return _is_named(path)


register_source(SourceFormat("nifti", is_nifti, NiftiSource))


def _is_named(path: Path) -> bool:
    return path.name.lower().endswith(_SUFFIXES)


def _walk(root: Path) -> Iterator[Path]:
    """All files below a folder, hidden ones apart; links to folders are not followed, so there are no loops."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _files_in(root: Path) -> list[Path]:
    found = [file for file in _walk(root) if _is_named(file) and file.is_file()]  # no dangling link, no pipe
    return sorted(found, key=lambda file: natural_key(file.relative_to(root).as_posix()))


def _names_of(files: list[Path], root: Path) -> list[str]:
    relative = [file.relative_to(root) for file in files]
    # The frames of a stack `a.nii` are `a/000000` …, which are files of the folder `a` too.
    folders = {parent.as_posix() for file in relative for parent in file.parents}
    return distinct_names([file.as_posix() for file in relative], _stem, folders)


def _stem(name: str) -> str:
    suffix = ".nii.gz" if name.lower().endswith(".nii.gz") else ".nii"
    return name[: -len(suffix)]


def _try_to_read(file: Path) -> NiftiLayout | str:
    """Return where the frames of a file lie, or why it has none."""
    try:
        return _layout_of(_load(file))
    except UserError as error:
        return str(error).rstrip(".")


def _count(layout: NiftiLayout | str) -> int:
    """How many items a file is: a bad one is a single `Failure`."""
    return 1 if isinstance(layout, str) else layout.frames


def _load(file: Path) -> Any:
    """Read the header.

    Raises:
        UserError: without the file's name and folder, which may be the temporary one of this user.
    """
    try:
        return nib.load(file)
    # The last two: nibabel makes an int of an offset in the header that is NaN or infinite.
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, ValueError, OverflowError) as error:
        reason = str(error).replace(str(file), "the file").splitlines()[0]
        raise UserError(f"is damaged or no NIfTI file ({reason}); copy it again") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).replace(str(file), "the file")
        raise UserError(f"cannot be read ({reason}); copy it again") from None


def _layout_of(image: Any) -> NiftiLayout:
    if math.prod(map(int, image.shape[:2])) > MOST_PIXELS:
        sides = "x".join(map(str, image.shape[:2]))
        raise UserError(f"has a header that promises frames of {sides}, which none are; copy it again")
    return find_layout(image.shape, coloured=image.get_data_dtype().names is not None)


def _fingerprint(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        digest.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@contextmanager
def _unpacked(file: Path) -> Iterator[tuple[Any, Any]]:
    """Give a file's header and an array proxy that reads any part of it at once."""
    image = _load(file)
    if file.name.lower().endswith(".gz"):
        with tempfile.TemporaryDirectory(prefix="lap_monai_") as folder:
            plain = Path(folder, "unpacked.nii")
            needed = _needed(image)
            if needed > shutil.disk_usage(folder).free:
                gigabytes = f"{needed / 2**30:.1f} GiB"
                raise UserError(f"unpacks to {gigabytes}, for which the temporary folder has no room; set TMPDIR")
            try:
                with gzip.open(file) as packed, plain.open("wb") as target:
                    while (left := needed - target.tell()) > 0 and (block := packed.read(min(left, 1 << 20))):
                        target.write(block)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                raise UserError("has compressed data that are truncated or damaged; copy it again") from None
            yield image, _proxy(plain)
    else:
        yield image, _proxy(file)


def _needed(image: Any) -> int:
    """Bytes that a plain file of this header has at least."""
    data = image.dataobj
    return int(data.offset) + data.dtype.itemsize * math.prod(map(int, data.shape))


def _proxy(file: Path) -> Any:
    image = _load(file)
    data, needed = image.dataobj, _needed(image)
    if file.stat().st_size < needed:
        raise UserError(f"is truncated: {file.stat().st_size} of {needed} bytes; copy it again")
    return data


def _top_value(data: Any, layout: NiftiLayout) -> float:
    """Return which value is full brightness, 255 or 1, for all frames alike."""
    if data.dtype.names is not None or (data.dtype == np.uint8 and (data.slope, data.inter) == (1, 0)):
        return 255.0
    low, high, whole = np.inf, -np.inf, True
    for frame in range(layout.frames):
        values = np.asarray(data[layout.index(frame)])
        low, high = np.minimum(low, values.min()), np.maximum(high, values.max())  # NaN stays NaN
        whole = whole and values.dtype.kind in "iu"
    if not (low >= 0 and high <= 255):
        raise UserError(f"has values from {low:g} to {high:g}; save frames of 0 to 255, or of 0 to 1")
    return 1.0 if high <= 1 and not whole else 255.0


def _to_rgb(values: Any, top: float, layout: NiftiLayout) -> Pixels:
    values = np.asarray(values)
    if values.dtype.names is not None:
        values = np.stack([values[channel] for channel in values.dtype.names[:3]], axis=-1)
    if values.dtype != np.uint8:
        values = np.rint(values.astype(np.float64) * (255.0 / top)).astype(np.uint8)
    if values.ndim == 2:
        values = values[..., None].repeat(3, axis=2)
    return np.ascontiguousarray(layout.turn(values[..., :3]))
