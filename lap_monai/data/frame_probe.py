"""One close look at the files of a datalist row."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from lap_monai import keys
from lap_monai.checks import UserError
from lap_monai.data.duplicates import FrameSignature, sign_frame
from lap_monai.data.finding import Finding, Severity
from lap_monai.data.image_files import DISPUTED, read_frame, read_label, read_mask
from lap_monai.data.layout import Row
from lap_monai.label_space import LabelSpace

# A frame is black if 99 % of its pixels are darker than this in every channel (of 255). The scope's view, even a dark
# one, covers far more than 1 % of a usable frame.
_BLACK = 16


@dataclass
class FrameProbe:
    """What the files of a row hold.

    Args:
        size: (width, height) of the frame, or None if it cannot be read.
        signature: for finding duplicates; None if the frame cannot be read or is uniform.
        histogram: pixels of each raw mask value, `int64 (256,)`; zeros without a readable mask.
        findings: the defects seen.
    """

    size: tuple[int, int] | None = None
    signature: FrameSignature | None = None
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    findings: list[Finding] = field(default_factory=list)


def probe_frame(row: Row, root: Path, label_space: LabelSpace) -> FrameProbe:
    """Decode frame and mask of a row and note their defects.

    Args:
        row: a datalist row; `label` may be None.
        root: the data set's folder, which findings name files in.
        label_space: a space of the data set's layout, for the mask values that may occur.
    """
    probe = FrameProbe()
    _probe_image(probe, Path(row[keys.IMAGE]), root)
    label = row[keys.LABEL]
    if isinstance(label, Mapping):
        _probe_binary_masks(probe, label, root)
    elif label is not None:
        _probe_mask(probe, Path(label), root, label_space)
    return probe


def is_black(frame: Image.Image) -> bool:
    """Whether an RGB frame shows nothing: 99 % of its pixels are dark in every channel."""
    return bool(np.percentile(np.asarray(frame.reduce(4)).max(axis=2), 99) < _BLACK)


def _probe_image(probe: FrameProbe, path: Path, root: Path) -> None:
    def note(severity: Severity, kind: str, message: str) -> None:
        probe.findings.append(Finding(severity, kind, _relative(path, root), message))

    try:
        frame = read_frame(path)
    except UserError as error:
        note("error", "unreadable frame", _without_path(error, "frame", path))
        return
    probe.size = frame.size
    probe.signature = sign_frame(frame)
    if is_black(frame):
        note("warning", "black frame", "shows nothing")


def _probe_mask(probe: FrameProbe, path: Path, root: Path, label_space: LabelSpace) -> None:
    def note(severity: Severity, kind: str, message: str) -> None:
        probe.findings.append(Finding(severity, kind, _relative(path, root), message))

    mask = _readable_mask(probe, path, root)
    if mask is None:
        return
    probe.histogram = np.array(mask.histogram(), dtype=np.int64)
    unknown = label_space.unknown_values(probe.histogram)
    if unknown:
        message = f"{_values(probe.histogram, unknown)}; layout {label_space.layout!r} has no such class"
        note("error", "unknown mask value", message)
    elif not label_space.count_pixels(probe.histogram).any():
        note("warning", "empty mask", f"holds no pixel of any class of {label_space.name}")


def _probe_binary_masks(probe: FrameProbe, label: Mapping[str, int], root: Path) -> None:
    """Look at the masks of a frame whose structures have a file each; the histogram is that of all together."""
    masks = [(Path(path), _readable_mask(probe, Path(path), root)) for path in label]
    for path, mask in masks:
        histogram = np.array([] if mask is None else mask.histogram(), dtype=np.int64)
        odd = [int(value) for value in np.flatnonzero(histogram) if value not in (0, 255)]
        if odd:
            message = f"{_values(histogram, odd)}; a mask of one structure is 0 or 255"
            probe.findings.append(Finding("error", "unknown mask value", _relative(path, root), message))
    if probe.size is not None and all(mask is not None and mask.size == probe.size for _, mask in masks):
        probe.histogram = np.array(read_label(label, probe.size).histogram(), dtype=np.int64)
        if probe.histogram[DISPUTED]:
            where = ", ".join(_relative(path, root) for path, _ in masks)
            message = f"overlap in {probe.histogram[DISPUTED]:,} px, which are ignored"
            probe.findings.append(Finding("warning", "overlapping masks", where, message))


def _readable_mask(probe: FrameProbe, path: Path, root: Path) -> Image.Image | None:
    """Decode a mask and note what is odd about its channels and size; None if it cannot be read."""

    def note(severity: Severity, kind: str, message: str) -> None:
        probe.findings.append(Finding(severity, kind, _relative(path, root), message))

    try:
        mask = read_mask(path)
        mode, bands = _channels(path)
    except UserError as error:
        note("error", "unreadable mask", _without_path(error, "mask", path))
        return None
    if mode in ("LA", "RGBA"):
        note("warning", "mask with alpha", f"is {mode}; only its first channel is used")
    if len(bands) >= 3 and any(ImageChops.difference(bands[0], band).getbbox() for band in bands[1:3]):
        note("error", "coloured mask", "has unequal channels, so it is a picture and no class mask; restore the mask")
    if probe.size is not None and mask.size != probe.size:
        sizes = f"is {_text(mask.size)}, its frame {_text(probe.size)}"
        note("error", "mask of another size", f"{sizes}; restore the mask or delete the frame")
    return mask


def _values(histogram: NDArray[np.int64], values: Sequence[int]) -> str:
    """Name some mask values and how many pixels have them."""
    named = ", ".join(f"{value} ({histogram[value]:,} px)" for value in values[:8])
    return named + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def _channels(path: Path) -> tuple[str, tuple[Image.Image, ...]]:
    """PIL mode and channels of a mask; a second decoding, which masks of one channel are spared."""
    with Image.open(path) as mask:
        return mask.mode, mask.split() if mask.mode in ("RGB", "RGBA") else ()


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _relative(path: Path, root: Path) -> str:
    return os.path.relpath(path, root)


def _without_path(error: UserError, what: str, path: Path) -> str:
    """The reader's message without the path, which the finding names already."""
    return str(error).removeprefix(f"{what} {str(path)!r} ").rstrip(".")
