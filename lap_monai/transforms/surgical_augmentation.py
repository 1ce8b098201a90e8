"""One drawn augmentation of a frame and its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from lap_monai.keys import IGNORE_INDEX

__all__ = ["SurgicalAugmentation"]

ColourMatrix = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class SurgicalAugmentation:
    """Zoom, crop, pad, flip, blur and recolour with fixed parameters: a pure function of the frame.

    Zoom, crop, pad and flip are one resampling of the pixels that remain. `RandSurgicalAugmentd` draws the parameters.

    Args:
        zoomed: `(H, W)` in pixels to which the whole frame is scaled.
        corner: `(top, left)` of the crop in the zoomed frame.
        crop: `(H, W)` of the result. Where the zoomed frame is smaller, it is set amid a border: the image is reflected
            there, the label ignored.
        flip: mirror left and right.
        blur: `(kernel size, sigma)` in pixels of the result, or None.
        colour: 3 x 4 matrix that maps `(r, g, b, 1)` in [0, 1] to new values, or None.
    """

    zoomed: tuple[int, int]
    corner: tuple[int, int]
    crop: tuple[int, int]
    flip: bool = False
    blur: tuple[int, float] | None = None
    colour: ColourMatrix | None = None

    def on_image(self, image: torch.Tensor) -> torch.Tensor:
        """Apply to an image.

        Args:
            image: `(C, H, W)`, uint8 or float32 in [0, 1]; C must be 3 for `colour`.

        Returns:
            float32 `(C, *crop)` in [0, 1].
        """
        source = image.permute(1, 2, 0).numpy()
        rows, columns = self._axes(source.shape[:2])
        pixels = _zoomed(source, rows, columns)
        pixels = pixels.take(rows.reflected, axis=0) if rows.border else pixels
        pixels = pixels.take(columns.reflected, axis=1) if columns.border else pixels
        pixels = pixels[:, ::-1] if self.flip else pixels
        result = torch.from_numpy(np.array(pixels, order="C")).permute(2, 0, 1).contiguous()
        result = result.float().div_(255) if result.dtype == torch.uint8 else result
        if self.colour is not None:
            result = _recoloured(result, self.colour)
        # Deviation: the paper blurs before it crops. Afterwards there is less to blur, and only the rim differs.
        return result if self.blur is None else _blurred(result, *self.blur)

    def on_label(self, label: torch.Tensor) -> torch.Tensor:
        """Apply to a label map `(1, H, W)` of integers: nearest neighbours, and `IGNORE_INDEX` in the border."""
        source = label.numpy()
        rows, columns = self._axes(source.shape[1:])
        result = np.full((len(source), *self.crop), IGNORE_INDEX, source.dtype)
        result[:, rows.inner, columns.inner] = source.take(rows.nearest, axis=1).take(columns.nearest, axis=2)
        return torch.from_numpy(result[..., ::-1].copy() if self.flip else result)

    def _axes(self, shape: tuple[int, ...]) -> tuple[_Axis, _Axis]:
        rows, columns = (_Axis(*numbers) for numbers in zip(shape, self.zoomed, self.corner, self.crop, strict=True))
        return rows, columns


@dataclass(frozen=True)
class _Axis:
    """Which source pixels an axis of the result shows."""

    source: int  # pixels of the frame
    zoomed: int  # pixels of the scaled frame
    start: int  # of the crop, in the scaled frame
    crop: int  # pixels of the result

    @property
    def shown(self) -> int:
        return min(self.zoomed - self.start, self.crop)

    @property
    def border(self) -> int:
        return self.crop - self.shown

    @property
    def inner(self) -> slice:
        """Where the frame lies in the result."""
        return slice(self.border // 2, self.border // 2 + self.shown)

    @property
    def box(self) -> tuple[float, float]:
        """The interval of the frame that is shown."""
        return self.start * self.source / self.zoomed, (self.start + self.shown) * self.source / self.zoomed

    @property
    def nearest(self) -> np.ndarray:
        """Source pixel under the centre of each shown pixel."""
        centres_twice = 2 * (self.start + np.arange(self.shown)) + 1
        return centres_twice * self.source // (2 * self.zoomed)

    @property
    def reflected(self) -> np.ndarray:
        """Shown pixel of each pixel of the result."""
        before = self.inner.start
        return np.pad(np.arange(self.shown), (before, self.border - before), mode="reflect")


def _zoomed(source: np.ndarray, rows: _Axis, columns: _Axis) -> np.ndarray:
    """Return the shown part of `source`, `(H, W, C)`, scaled bilinearly, with antialiasing where it shrinks."""
    if (rows.source, columns.source) == (rows.zoomed, columns.zoomed):
        return source[rows.start : rows.start + rows.shown, columns.start : columns.start + columns.shown]
    (top, bottom), (left, right) = rows.box, columns.box

    def scale(plane: np.ndarray) -> np.ndarray:
        size, box = (columns.shown, rows.shown), (left, top, right, bottom)
        return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR, box=box))

    if source.dtype == np.uint8 and source.shape[2] == 3:
        return scale(source)
    return np.stack([scale(source[..., channel]) for channel in range(source.shape[2])], axis=-1)


def _recoloured(image: torch.Tensor, colour: ColourMatrix) -> torch.Tensor:
    matrix = torch.tensor(colour, dtype=torch.float32)
    mixed = torch.addmm(matrix[:, 3:], matrix[:, :3], image.flatten(1))
    return mixed.clamp_(0, 1).reshape(image.shape)


def blur_weights(size: int, sigma: float) -> list[float]:
    """Return the Gaussian kernel of `size` pixels, which adds up to 1."""
    weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return (weights / weights.sum()).tolist()


def _blurred(image: torch.Tensor, size: int, sigma: float) -> torch.Tensor:
    weights = blur_weights(size, sigma)
    for axis in (1, 2):
        image = _smoothed(image, weights, axis)
    return image


def _smoothed(image: torch.Tensor, weights: list[float], axis: int) -> torch.Tensor:
    """Convolve `(C, H, W)` with a symmetric kernel along one axis: sums of slices, faster than `conv2d` on a CPU."""
    half, length = len(weights) // 2, image.shape[axis]
    padded = functional.pad(image, (half, half, 0, 0) if axis == 2 else (0, 0, half, half), mode="reflect")
    result = padded.narrow(axis, half, length) * weights[half]
    for i in range(half):
        pair = padded.narrow(axis, i, length) + padded.narrow(axis, len(weights) - 1 - i, length)
        result.add_(pair, alpha=weights[i])
    return result
