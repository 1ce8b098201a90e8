"""Frames with their classes painted on, fast enough for a video."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lap_monai.inference.source import Pixels
from lap_monai.keys import IGNORE_INDEX
from lap_monai.label_space import LabelSpace


class Painter:
    """Tint frames by class, outline the classes, and set a legend below the picture, so that it covers nothing.

    Grey classes (backgrounds) and frames that were passed over stay as they are. A pixel is worked on as one 32-bit
    word, which is several times faster than floating-point blending; the tint is half frame, half class colour.

    Args:
        label_space: names and colours of the classes.
        side_by_side: put the plain frame to the left.
        legend: name the classes below.
    """

    def __init__(self, label_space: LabelSpace, side_by_side: bool = False, legend: bool = True) -> None:
        self._space, self._side_by_side, self._legend = label_space, side_by_side, legend
        shown = [len(set(colour)) > 1 for colour in label_space.colours]
        colours = np.zeros((256, 4), dtype=np.uint8)
        colours[: len(shown), :3] = label_space.colours
        tinted = np.zeros(256, dtype=bool)
        tinted[: len(shown)] = shown
        tinted[IGNORE_INDEX] = False
        self._full = _words(colours)
        self._half = np.where(tinted, _words(colours // 2), np.uint32(0))
        self._keep = np.where(tinted, np.uint32(0x7F7F7F7F), np.uint32(0))
        self._tinted = tinted
        self._strips: dict[int, Pixels] = {}

    def __call__(self, image: Pixels, labels: Pixels) -> Pixels:
        """Return the painted frame: `(H', W', 3)` uint8, wider for the plain frame and higher for the legend."""
        height, width = labels.shape
        pixels = np.zeros((height, width, 4), dtype=np.uint8)
        pixels[..., :3] = image
        words = _words(pixels)
        # No byte of a word borrows from or carries to the next: half of each is at most what is there.
        painted = words - ((words >> 1) & self._keep[labels]) + self._half[labels]
        outline = _inner_boundaries(labels) & self._tinted[labels]
        painted[outline] = self._full[labels[outline]]
        picture = painted.view(np.uint8).reshape(height, width, 4)[..., :3]
        if self._side_by_side:
            picture = np.concatenate([image, picture], axis=1)
        return (
            np.concatenate([picture, self._strip(picture.shape[1])]) if self._legend else np.ascontiguousarray(picture)
        )

    def _strip(self, width: int) -> Pixels:
        if width not in self._strips:
            self._strips[width] = _draw_legend(self._space, width)
        return self._strips[width]


def _words(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    return pixels.view(np.uint32)[..., 0]


def _inner_boundaries(labels: Pixels) -> NDArray[np.bool_]:
    """Pixels with a neighbour, among four, of another class."""
    edge = np.zeros(labels.shape, dtype=bool)
    beside, below = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edge[:, 1:] |= beside
    edge[:, :-1] |= beside
    edge[1:] |= below
    edge[:-1] |= below
    return edge


def _draw_legend(space: LabelSpace, width: int) -> Pixels:
    """A strip with a swatch and the name of every class that is painted, in as many lines as it takes."""
    size = max(9, min(16, width // 50))
    font = ImageFont.load_default(size)
    places: list[tuple[int, int, str, tuple[int, int, int]]] = []
    x, line, gap = size // 2, 0, size // 2
    for name, colour in zip(space.classes, space.colours, strict=True):
        if len(set(colour)) == 1:
            continue
        length = size + gap + round(font.getlength(name)) + 2 * gap
        if x + length > width and x > gap:
            x, line = gap, line + 1
        places.append((x, line, name, colour))
        x += length
    height = round(1.6 * size)
    strip = Image.new("RGB", (width, height * (line + 1)), (16, 16, 16))
    draw = ImageDraw.Draw(strip)
    for x, line, name, colour in places:
        y = line * height + (height - size) // 2
        draw.rectangle((x, y, x + size - 1, y + size - 1), fill=colour)
        draw.text((x + size + gap, y - size // 8), name, font=font, fill=(235, 235, 235))
    return np.asarray(strip)
