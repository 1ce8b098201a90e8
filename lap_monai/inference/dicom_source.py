"""Frames from DICOM files: endoscopic pictures and videos, one file or a folder of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lap_monai.checks import UserError
from lap_monai.data import natural_key
from lap_monai.inference.dicom import is_dicom
from lap_monai.inference.dicom_file import DicomFile
from lap_monai.inference.dicom_pixels import decode_frames
from lap_monai.inference.source import Failure, Item
from lap_monai.inference.video import frame_name

#: Key of `Item.meta` under which the writer of DICOM segmentations finds a `DicomFrame`.
DICOM = "dicom"


@dataclass(frozen=True)
class DicomFrame:
    """Where a frame comes from: its file, and its number in there, from 1."""

    file: DicomFile
    number: int


class DicomSource:
    """Frames of DICOM files: series by series in the order of the files' names, in a series by instance number.

    VL and Video Endoscopic images are what this is for; any other with frames of 8 bits is read as well. Names are
    numbers: those of DICOM files often hold what should not be passed on. One frame at a time is in memory.

    Args:
        path: a file, or a folder (searched in full; what does not begin as DICOM does is passed over, and so is a
            DICOMDIR). A file of a folder that cannot be read is a `Failure`.

    Raises:
        UserError: if there is no such file, or the one that is named cannot be read.
    """

    kind = "dicom"

    def __init__(self, path: Path) -> None:
        paths = _files_in(path) if path.is_dir() else [path]
        if not paths:
            raise UserError(f"The folder {str(path)!r} holds no DICOM file; name another.")
        entries = [_try_to_read(file) for file in paths]
        if len(entries) == 1 and isinstance(entries[0], str):
            raise UserError(f"The DICOM file {str(path)!r} cannot be used: {entries[0]}.")
        self._entries = _in_order(entries)
        counts = [1 if isinstance(entry, str) else entry.frames for entry in self._entries]
        self.total: int | None = None if None in counts else sum(count or 0 for count in counts)
        first = self._entries[0]
        self.fps: float | None = first.fps if len(self._entries) == 1 and isinstance(first, DicomFile) else None
        states = [file.stat() for file in paths]
        digest = hashlib.sha256("\n".join(f"{state.st_size} {state.st_mtime_ns}" for state in states).encode())
        self.fingerprint = digest.hexdigest()[:16]

    def items(self, start: int = 0) -> Iterator[Item | Failure]:
        """Yield the frames from index `start` on."""
        first = 0  # index of the file's first frame
        for entry in self._entries:
            if isinstance(entry, str):
                if first >= start:
                    yield Failure(frame_name(first), first, entry)
                first += 1
            elif entry.frames is not None and first + entry.frames <= start:
                first += entry.frames
            else:
                # A video that does not say how many frames it has is counted by decoding it.
                within = 0 if entry.frames is None else max(start - first, 0)
                for item in self._items_of(entry, first, within):
                    if item.index >= start:
                        yield item
                    within += 1
                first += within

    def _items_of(self, file: DicomFile, first: int, start: int) -> Iterator[Item | Failure]:
        try:
            for frame, pixels in enumerate(decode_frames(file, start), start):
                name, index = frame_name(first + frame), first + frame
                if isinstance(pixels, str):
                    yield Failure(name, index, pixels)
                else:
                    time = None if self.fps is None else round(frame / self.fps, 6)
                    yield Item(name, index, pixels, time, {DICOM: DicomFrame(file, frame + 1)})
        except UserError as error:  # of the stream as a whole
            for frame in range(start, file.frames or start + 1):
                yield Failure(frame_name(first + frame), first + frame, str(error))


def _files_in(root: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(root):  # links to folders are not followed, so there are no loops
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(folder, name) for name in names if not name.startswith(".") and name.upper() != "DICOMDIR"]
        found += [path for path in paths if path.is_file() and is_dicom(path)]
    return sorted(found, key=lambda path: natural_key(path.relative_to(root).as_posix()))


def _try_to_read(path: Path) -> DicomFile | str:
    try:
        return DicomFile.read(path)
    except UserError as error:
        return str(error)


def _in_order(entries: list[DicomFile | str]) -> list[DicomFile | str]:
    """Sort the files of each series by instance number; what cannot be read comes last."""
    files = [entry for entry in entries if isinstance(entry, DicomFile)]
    ranks = {series: rank for rank, series in enumerate(dict.fromkeys(file.series for file in files))}
    return [
        *sorted(files, key=lambda file: (ranks[file.series], file.number)),
        *(entry for entry in entries if isinstance(entry, str)),
    ]
