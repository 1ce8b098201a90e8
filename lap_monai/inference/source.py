"""Where frames come from: one protocol for folders, videos, arrays, live captures, NIfTI and DICOM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lap_monai.checks import UserError, did_you_mean

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Item:
    """One frame.

    Args:
        name: what its output files are called: a relative path in POSIX form without a suffix, `"clip 1/frame_80"` or
            `"000080"`. It never holds `..`, a folder above the source, or anything read from a header.
        index: position in the source, from 0; failed frames count. Only a live capture that drops frames leaves gaps.
        image: `(H, W, 3)` uint8 RGB.
        time: seconds since the source's first frame; None where there is no time.
        meta: what a writer of the source's own format needs (affine, data set …); writers of other formats pass it
            over, so nothing in it reaches their files.
    """

    name: str
    index: int
    image: Pixels
    time: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A frame that could not be had. It takes its place in the order and is counted; the next ones still come.

    Args:
        name: as that of an `Item`.
        index: as that of an `Item`.
        error: cause and remedy in one line, without the path of the source.
    """

    name: str
    index: int
    error: str


class Source(Protocol):
    """Frames in their order, decoded when they are asked for, so that memory does not grow with the length.

    The properties may be plain attributes of a class or of its objects.
    """

    @property
    def kind(self) -> str:
        """The name it is registered under: `"frames"`, `"video"`, `"live"`, `"arrays"`, `"nifti"`, `"dicom"`."""
        ...

    @property
    def total(self) -> int | None:
        """How many items will come, as far as the source knows."""
        ...

    @property
    def fps(self) -> float | None:
        """Mean frame rate; None where frames are no sequence in time."""
        ...

    @property
    def fingerprint(self) -> str:
        """Something that changes when the content changes; a run is only resumed on the same."""
        ...

    def items(self, start: int = 0) -> Iterator[Item | Failure]:
        """Yield the items from index `start` on. Runs in a thread of its own; closing the iterator frees the files."""
        ...


@dataclass(frozen=True)
class SourceFormat:
    """A way to read a path.

    Args:
        kind: its name.
        accepts: whether it reads this existing file or folder: by suffix or the first bytes, in milliseconds.
        open: makes the source; raises `UserError` if the path is damaged or holds no frame.
    """

    kind: str
    accepts: Callable[[Path], bool]
    open: Callable[[Path], Source]


#: Formats by kind, asked in this order. Image files, folders and videos come last, as they accept most.
SOURCE_FORMATS: dict[str, SourceFormat] = {}


def register_source(source_format: SourceFormat) -> SourceFormat:
    """Add a format; the one registered last is asked first."""
    others = {kind: known for kind, known in SOURCE_FORMATS.items() if kind != source_format.kind}
    SOURCE_FORMATS.clear()
    SOURCE_FORMATS.update({source_format.kind: source_format, **others})
    return source_format


def distinct_names(files: list[str], stem: Callable[[str], str], taken: Collection[str] = ()) -> list[str]:
    """Return what the frames of files are called: each file's stem, or its full name where the stem names others too.

    Args:
        files: relative paths in POSIX form, each different.
        stem: takes the suffix off.
        taken: other names that no stem may have.
    """
    stems = [stem(file) for file in files]
    often, others = Counter(stems), {*files, *taken}
    return [name if often[name] == 1 and name not in others else file for name, file in zip(stems, files, strict=True)]


def open_source(where: str | Path, kind: str | None = None) -> Source:
    """Open a file, a folder, or a live capture.

    Args:
        where: a path; an address such as `rtsp://127.0.0.1:8554/scope`; or the index of a capture device, `"0"`, unless
            a file or folder is called so.
        kind: a key of `SOURCE_FORMATS` to read it as; None finds out.

    Raises:
        UserError: if there is nothing, no format reads it, or it holds no frame.
    """
    from lap_monai.inference.live import is_live, open_live

    path = Path(where)
    if kind is None and is_live(str(where)) and not path.exists():  # a folder may have a number for a name
        return open_live(str(where))
    if not path.exists():
        raise UserError(f"The input {str(path)!r} does not exist; give a frame, a folder, a video or a device index.")
    if kind is not None:
        if kind not in SOURCE_FORMATS:
            raise UserError(f"Unknown kind of input {kind!r}.{did_you_mean(kind, SOURCE_FORMATS)}")
        return SOURCE_FORMATS[kind].open(path)
    for source_format in SOURCE_FORMATS.values():
        if source_format.accepts(path):
            return source_format.open(path)
    known = ", ".join(SOURCE_FORMATS)
    raise UserError(f"The input {str(path)!r} is of no known kind ({known}); convert it, or check its suffix.")
