"""Image files: one frame, or a folder of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from lap_monai.checks import UserError
from lap_monai.data import natural_key
from lap_monai.data.image_files import PICTURE_FORMATS, has_wide_channels, require_size
from lap_monai.inference.source import Failure, Item, Pixels, SourceFormat, distinct_names, register_source

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")


class FrameFiles:
    """Frames from image files; greyscale and palette are expanded, alpha is dropped, as the bundle's own reader does.

    A file that is damaged, animated, of more than 8 bits a channel, or large enough to be an attack becomes a
    `Failure`.

    Args:
        paths: the files, in order.
        root: their names are relative to this folder.
    """

    kind = "frames"
    fps = None

    def __init__(self, paths: list[Path], root: Path) -> None:
        self.paths = paths
        self.names = distinct_names([path.relative_to(root).as_posix() for path in paths], _stem)
        self.total = len(paths)
        stats = [path.stat() for path in paths]
        listing = [f"{name}:{stat.st_size}" for name, stat in zip(self.names, stats, strict=True)]
        self.fingerprint = hashlib.sha256("\n".join(listing).encode()).hexdigest()[:16]

    @classmethod
    def open(cls, path: Path) -> FrameFiles:
        """Find the frames of a folder and its subfolders in natural order, or take the one file.

        Links to folders are followed, each real folder being read once, so that loops end. Files whose name contains
        `mask` are left out, as in the bundle's inference; so are hidden ones.

        Raises:
            UserError: if there is none.
        """
        if path.is_file():
            return cls([path], path.parent)
        found = sorted(_walk(path), key=lambda file: natural_key(file.relative_to(path).as_posix()))
        if not found:
            raise UserError(f"The folder {str(path)!r} holds no frame ({', '.join(SUFFIXES)}); name another.")
        return cls(found, path)

    def items(self, start: int = 0) -> Iterator[Item | Failure]:
        """Yield the frames from index `start` on."""
        for index in range(start, self.total):
            name = self.names[index]
            try:
                yield Item(name, index, _read(self.paths[index]))
            except UserError as error:
                yield Failure(name, index, str(error))


def _accepts(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in SUFFIXES


register_source(SourceFormat(FrameFiles.kind, _accepts, FrameFiles.open))


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        state = os.stat(parent)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural_key)
        for name in files:
            path = Path(parent, name)
            wanted = path.suffix.lower() in SUFFIXES and not name.startswith(".") and "mask" not in name.lower()
            if wanted and path.is_file():  # no dangling link, no pipe
                yield path


def _stem(file: str) -> str:
    return os.path.splitext(file)[0]


def _read(path: Path) -> Pixels:
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            require_size(image)
            # A stereo camera's MPO holds a second view; its first is the frame.
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1 and image.format != "MPO":
                raise UserError(f"holds {pictures} pictures; turn it into a video, or save one picture")
            if has_wide_channels(image):
                raise UserError("has more than 8 bits a channel; convert it to 8 bits")
            return np.array(image.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # for damaged data Pillow's decoders raise errors of many kinds
        why = str(error) or type(error).__name__
        reason = "is no image" if isinstance(error, UnidentifiedImageError) else f"cannot be decoded: {why}"
        raise UserError(f"{reason.replace(str(path), path.name)}; copy it again") from None
