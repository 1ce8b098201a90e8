"""Copies of frames as a careless or a cunning generator would make them, to try an audit with."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lap_monai.replay.frames import Pixels

#: Copies made of one frame, by name, drawing what is random from a generator.
_Disguise = Callable[[Pixels, np.random.Generator], Pixels]


def plant_copies(frame: Pixels, rng: np.random.Generator) -> dict[str, Pixels]:
    """Return disguised copies of a frame, which an audit must flag, by the name of the disguise.

    Args:
        frame: `(H, W, 3)` uint8.
        rng: draws how far each is changed: shifts of up to 5 % of a side, crops down to 90 %, brightness and contrast
            by up to a fifth, JPEG qualities from 40 to 90.

    Returns:
        Name → copy of the frame's size. `everything` is all at once.
    """
    return {name: disguise(frame, rng) for name, disguise in _DISGUISES.items()}


def _flip(frame: Pixels, _rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(frame[:, ::-1])


def _jpeg(frame: Pixels, rng: np.random.Generator) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=int(rng.integers(40, 91)))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _brightness(frame: Pixels, rng: np.random.Generator) -> Pixels:
    return _bytes(frame + rng.uniform(-25, 25))


def _contrast(frame: Pixels, rng: np.random.Generator) -> Pixels:
    mean = frame.mean()
    return _bytes((frame - mean) * rng.uniform(0.8, 1.2) + mean)


def _shift(frame: Pixels, rng: np.random.Generator) -> Pixels:
    """Move the picture; its edge pixels fill what opens."""
    height, width = frame.shape[:2]
    rows = np.clip(np.arange(height) + round(rng.uniform(-0.05, 0.05) * height), 0, height - 1)
    columns = np.clip(np.arange(width) + round(rng.uniform(-0.05, 0.05) * width), 0, width - 1)
    return frame[rows][:, columns]


def _crop(frame: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut a window out and blow it up."""
    height, width = frame.shape[:2]
    side = rng.uniform(0.9, 1)
    left, top = rng.uniform(0, 1 - side) * width, rng.uniform(0, 1 - side) * height
    box = (left, top, left + side * width, top + side * height)
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR, box))


def _everything(frame: Pixels, rng: np.random.Generator) -> Pixels:
    for disguise in (_crop, _flip, _contrast, _brightness, _jpeg):
        frame = disguise(frame, rng)
    return frame


def _bytes(values: NDArray[np.floating]) -> Pixels:
    return values.clip(0, 255).round().astype(np.uint8)


_DISGUISES: dict[str, _Disguise] = {
    "exact": lambda frame, _rng: frame,
    "flipped": _flip,
    "re-encoded": _jpeg,
    "other brightness": _brightness,
    "other contrast": _contrast,
    "shifted": _shift,
    "cropped": _crop,
    "everything": _everything,
}
