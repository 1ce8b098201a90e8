"""Pictures of a frame, its masks and its errors, as `data:` addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries

from lap_monai.keys import IGNORE_INDEX
from lap_monai.reports.examples import Example, Pixels

Colours = Sequence[tuple[int, int, int]]

#: Longest side of a picture in a report, in pixels.
MAX_SIDE = 640


def overlay(image: Pixels, ids: Pixels, colours: Colours, strength: float = 0.5) -> Pixels:
    """Tint `image` `(H, W, 3)` by class `(H, W)` and draw the classes' outlines in full colour.

    Grey classes (backgrounds) stay untinted, so that the frame shows through; ignored pixels are darkened.
    """
    table = _table(colours)
    painted = table[ids].astype(np.float64)
    tinted = np.where(_tintable(colours)[ids][..., None], strength, 0.0)
    mixed = image * (1 - tinted) + painted * tinted
    outline = find_boundaries(ids, mode="inner") & _tintable(colours)[ids]
    mixed[outline] = painted[outline]
    mixed[ids == IGNORE_INDEX] *= 0.35
    return mixed.astype(np.uint8)


def error_map(example: Example, colours: Colours) -> Pixels:
    """Return the frame in dim grey with its wrong pixels in colour.

    A wrong pixel has the colour of the true class, or of the predicted one where the truth is background (grey).
    Ignored pixels are black.
    """
    grey = example.image.mean(-1, keepdims=True) * 0.45
    picture = np.repeat(grey, 3, axis=-1)
    wrong = (example.truth != example.prediction) & (example.truth != IGNORE_INDEX)
    shown = np.where(_tintable(colours)[example.truth], example.truth, example.prediction)
    picture[wrong] = _table(colours)[shown][wrong]
    picture[example.truth == IGNORE_INDEX] = 0
    return picture.astype(np.uint8)


def jpeg_uri(picture: Pixels, quality: int = 86) -> str:
    """Return `picture` `(H, W, 3)` as a `data:` address, no side longer than `MAX_SIDE`."""
    image = Image.fromarray(picture)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def is_grey(colour: tuple[int, int, int]) -> bool:
    """Return whether a class colour is a grey, which label spaces use for background."""
    return len(set(colour)) == 1


def _table(colours: Colours) -> NDArray[np.uint8]:
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(colours)] = colours
    return table


def _tintable(colours: Colours) -> NDArray[np.bool_]:
    flags = np.zeros(256, dtype=bool)
    flags[: len(colours)] = [not is_grey(colour) for colour in colours]
    return flags
