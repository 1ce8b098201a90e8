"""Frames decoded and resized once, kept as memory-mapped bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from lap_monai.checks import UserError
from lap_monai.data.image_files import Label, label_files, read_frame, read_label, resize_frame, resize_mask
from lap_monai.data.layout import Row
from lap_monai.keys import IMAGE, LABEL

__all__ = ["FrameCache", "default_cache_directory"]

logger = logging.getLogger(__name__)

#: To be raised with every change of what a cache holds for the same files: older folders are then not read as new ones.
FORMAT_VERSION = 1

_PROGRESS_DELAY = 2.0  # seconds before the bar shows
_SPARE_BYTES = 16 * 2**20  # left free on the disk for everybody else

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def default_cache_directory() -> Path:
    """Return `$LAP_MONAI_CACHE`, or `.cache/lap_monai` in the home folder."""
    return Path(os.environ.get("LAP_MONAI_CACHE") or Path.home() / ".cache" / "lap_monai")


class FrameCache:
    """Frames, raw masks and mask histograms of a datalist, decoded and resized once, shared through memory maps.

    Every process that opens the same cache (loader workers, ranks) reads the same memory, the system's page cache.
    A cache lies in a folder of its own, named by a hash of what went in: the output size, the version of the format,
    and for each row the size, modification time and relative path of its files. So a changed file, another size or
    other rows never meet stale pixels, and a data set that moves as a whole (times kept) keeps its cache.

    Build one cache from all rows of a data set; any number of `FrameDataset`s (splits, folds, budgets) read from it.
    Masks are kept whether or not a method may see them, because image-level labels are counted from them.
    """

    size: tuple[int, int]  #: `(H, W)` of every cached frame
    histograms: np.ndarray  #: `(N, 256)` int64, read-only: native-resolution pixels of each raw value

    def __init__(self, folder: str | Path, rows: Sequence[Row]) -> None:
        """Open a complete cache; `build` is the way in.

        Args:
            folder: the cache's own folder.
            rows: the rows it was built from, in the same order.

        Raises:
            ValueError, OSError: if files are missing, cut short, or of another shape than the rows say.
        """
        self.folder = Path(folder)
        self.rows = [dict(row) for row in rows]
        self._open()

    @classmethod
    def build(
        cls,
        rows: Sequence[Row],
        size: Sequence[int] | None = None,
        directory: str | Path | None = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> FrameCache:
        """Open the cache of `rows`; build it first if it is not there or is damaged.

        Every frame is brought to `size` whatever its shape, as MONAI's `Resized` would: frames are averaged over areas
        (`resize_frame`), masks take nearest neighbours (`resize_mask`).

        The folder appears only when complete: it is written under a temporary name and renamed. Of several processes
        that ask for the same cache, one builds it while the others wait.

        Args:
            rows: datalist rows; `image` and `label` (or None) name the files.
            size: `(height, width)` to resize to; None keeps the native size, which all frames must then share.
            directory: where caches are kept; None for `default_cache_directory()`.
            workers: decoding threads; None for one per core, at most 16.
            progress: show a bar if building takes more than two seconds.

        Raises:
            UserError: for a missing or damaged file, a mask of another size than its frame, frames of several sizes
                without `size`, or a disk that is full or read-only. Nothing is left behind then.
        """
        if not rows:
            raise UserError("no frames to cache; check the data folder and the split.")
        plan = _Plan.of(rows, size)
        directory = Path(directory) if directory is not None else default_cache_directory()
        folder = directory / plan.key(rows)
        cache = cls._open_if_sound(folder, rows)
        if cache is not None:
            return cache
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with FileLock(directory / f".{folder.name}.lock"):
                cache = cls._open_if_sound(folder, rows)  # another process may have built it while this one waited
                if cache is None:
                    _build_folder(folder, rows, plan, workers or min(os.cpu_count() or 1, 16), progress)
                    cache = cls(folder, rows)
        except OSError as error:
            raise UserError(_disk_message(error, directory)) from error
        return cache

    @classmethod
    def _open_if_sound(cls, folder: Path, rows: Sequence[Row]) -> FrameCache | None:
        try:
            return cls(folder, rows)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            logger.debug("%s cannot be opened: %s", folder, error)
            return None

    def _open(self) -> None:
        record = json.loads((self.folder / "cache.json").read_text(encoding="utf-8"))
        height, width = record["size"]
        has_mask = np.array([row[LABEL] is not None for row in self.rows], bool)
        self.size = (height, width)
        self._images = _open_array(self.folder / "images.npy", np.uint8, (len(self.rows), height, width, 3))
        self._masks = _open_array(self.folder / "masks.npy", np.uint8, (int(has_mask.sum()), height, width))
        self.histograms = _open_array(self.folder / "histograms.npy", np.int64, (len(self.rows), 256))
        if record["histograms_sha256"] != _digest(self.histograms):
            raise ValueError("histograms.npy is not what was written")
        self._mask_position = np.where(has_mask, np.cumsum(has_mask) - 1, -1)
        self._position = {str(row[IMAGE]): i for i, row in enumerate(self.rows)}

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.rows)

    def image(self, index: int) -> np.ndarray:
        """Return frame `index` as `(H, W, 3)` uint8 RGB: a read-only view of the map, not a copy."""
        return self._images[index]

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask of frame `index` as `(H, W)` uint8 **raw** values (a read-only view), or None."""
        position = self._mask_position[index]
        return None if position < 0 else self._masks[position]

    def histograms_of(self, rows: Sequence[Row]) -> np.ndarray:
        """Return the histograms of `rows`, `(len(rows), 256)` int64.

        Raises:
            UserError: if the cache was built without one of them.
        """
        return self.histograms[np.array([self.position(row) for row in rows], np.int64)]

    def position(self, row: Row) -> int:
        """Return the index of the frame that `row` names.

        Raises:
            UserError: if the cache was built without it.
        """
        try:
            return self._position[str(row[IMAGE])]
        except KeyError:
            raise UserError(f"frame {str(row[IMAGE])!r} is not in the cache; build the cache from all rows.") from None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the place, not the pixels: a worker process opens the maps itself."""
        return {"folder": self.folder, "rows": self.rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the maps again."""
        self.__dict__.update(state)
        self._open()


class _Decoded(NamedTuple):
    """One row in memory: `(H, W, 3)`, `(H, W)` or None, `(256,)`."""

    frame: np.ndarray
    mask: np.ndarray | None
    histogram: np.ndarray


class _Plan(NamedTuple):
    """What is to be made of every row."""

    size: tuple[int, int]  # (H, W)
    native: bool  # no resizing: a frame of another size is an error

    @classmethod
    def of(cls, rows: Sequence[Row], size: Sequence[int] | None) -> _Plan:
        if size is None:
            first = read_frame(rows[0][IMAGE])
            return cls((first.height, first.width), native=True)
        if len(size) != 2 or min(size) < 1:
            raise UserError(f"size must be (height, width) of at least one pixel each, got {tuple(size)}.")
        return cls((int(size[0]), int(size[1])), native=False)

    def key(self, rows: Sequence[Row]) -> str:
        """Return the folder name that stands for this plan and the rows' files as they are now."""
        paths = [(row[IMAGE], row[LABEL]) for row in rows]
        files = [path for image, label in paths for path in (image, *(() if label is None else label_files(label)))]
        root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in files])
        digest = hashlib.sha256(json.dumps([FORMAT_VERSION, *self]).encode())
        for image, label in paths:
            stamps = [_stamp(image, "frame", root), None if label is None else _stamp_label(label, root)]
            digest.update(json.dumps(stamps).encode())
        return f"{self.size[1]}x{self.size[0]}-{digest.hexdigest()[:24]}"

    def decode(self, row: Row) -> _Decoded:
        image = read_frame(row[IMAGE])
        if self.native and (image.height, image.width) != self.size:
            raise UserError(
                f"frame {str(row[IMAGE])!r} is {image.width}x{image.height}, the first frame "
                f"{self.size[1]}x{self.size[0]}; give a size to which all are resized."
            )
        frame = resize_frame(image, self.size)
        if row[LABEL] is None:
            return _Decoded(frame, None, np.zeros(256, np.int64))
        mask = read_label(row[LABEL], image.size)
        return _Decoded(frame, resize_mask(mask, self.size), np.asarray(mask.histogram(), np.int64))


def _stamp(path: str | Path, what: str, root: str) -> list[Any]:
    """Return what tells one state of a file from another."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise UserError(
            f"{what} {str(path)!r} cannot be read ({error.strerror}); check the data folder, or drop its row."
        ) from None
    return [Path(os.path.relpath(path, root)).as_posix(), stat.st_size, stat.st_mtime_ns]


def _stamp_label(label: Label, root: str) -> list[Any]:
    if isinstance(label, Mapping):
        return [[value, *_stamp(path, "mask", root)] for path, value in label.items()]
    return _stamp(label, "mask", root)


def _build_folder(folder: Path, rows: Sequence[Row], plan: _Plan, workers: int, progress: bool) -> None:
    """Write all files into a temporary folder beside `folder`, then put it in place. The caller holds the lock."""
    for stale in folder.parent.glob(f".{folder.name}-*"):  # left by a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_files(temporary, rows, plan, workers, progress)
        if folder.exists():
            logger.warning("The frame cache %s was damaged and has been built anew.", folder)
            folder.rename(temporary / "damaged")  # whoever has it mapped keeps reading the old files
            shutil.rmtree(temporary / "damaged", ignore_errors=True)
        temporary.chmod(0o755)  # mkdtemp's folders are private, caches are shared
        temporary.rename(folder)
    except BaseException:  # Ctrl-C too leaves nothing half-written
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_files(folder: Path, rows: Sequence[Row], plan: _Plan, workers: int, progress: bool) -> None:
    (height, width), count = plan.size, len(rows)
    masks = sum(row[LABEL] is not None for row in rows)
    _require_space(folder, height * width * (3 * count + masks) + count * 256 * 8)
    histograms = np.empty((count, 256), np.int64)
    # Ordinary writes, not writes through a map: on a full disk they raise, where a map would kill the process.
    with (
        open(folder / "images.npy", "wb") as image_file,
        open(folder / "masks.npy", "wb") as mask_file,
        closing(_map_ahead(plan.decode, rows, workers)) as decoded_rows,
    ):
        _write_header(image_file, (count, height, width, 3))
        _write_header(mask_file, (masks, height, width))
        bar = tqdm(decoded_rows, "caching frames", count, unit="frame", disable=not progress, delay=_PROGRESS_DELAY)
        for i, decoded in enumerate(bar):
            image_file.write(decoded.frame.tobytes())
            if decoded.mask is not None:
                mask_file.write(decoded.mask.tobytes())
            histograms[i] = decoded.histogram
    np.save(folder / "histograms.npy", histograms)
    record = {"version": FORMAT_VERSION, "size": plan.size, "frames": count, "histograms_sha256": _digest(histograms)}
    (folder / "cache.json").write_text(json.dumps(record), encoding="utf-8")


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise OSError(errno.ENOSPC, f"{needed / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free")


def _disk_message(error: OSError, directory: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "free some, or set LAP_MONAI_CACHE to a folder on another disk"
        return f"no space for the frame cache in {str(directory)!r} ({error.strerror}); {remedy}."
    return (
        f"no frame cache can be written in {str(directory)!r} ({error}); set LAP_MONAI_CACHE to a folder that can be."
    )


def _map_ahead(function: Callable[[_In], _Out], items: Iterable[_In], workers: int) -> Generator[_Out, None, None]:
    """Yield `function(item)` in order, computed by threads that run a few items ahead: memory stays small."""
    remaining = iter(items)
    pending: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            pending.extend(pool.submit(function, item) for item in islice(remaining, 4 * workers))
            while pending:
                done = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
                yield done
        finally:
            for future in pending:
                future.cancel()


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _open_array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """Map a file read-only, as a plain array over the map: views of an `np.memmap` are slower to make."""
    if 0 in shape:  # an empty file cannot be mapped
        array = np.load(path)
    else:
        array = np.load(path, mmap_mode="r").view(np.ndarray)
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{path.name} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    return array


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
