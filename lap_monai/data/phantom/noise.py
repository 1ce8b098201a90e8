"""Tileable noise, the stuff of all textures and irregular outlines of the phantom.

Lengths are in units of the image height, as everywhere in the phantom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

Array = NDArray[np.floating[Any]]


def band_noise(
    rng: np.random.Generator, cells: int, tile: float, wavelength: float, spread: float = 0.5, stretch: float = 1.0
) -> Array:
    """Draw a periodic random field around one wavelength.

    Args:
        rng: where the randomness comes from.
        cells: samples along each side.
        tile: length of a side; the field repeats after it.
        wavelength: the typical distance of two crests.
        spread: width of the band in nepers; the larger, the more scales take part.
        stretch: how much longer the pattern is along x than along y (fibres).

    Returns:
        `(cells, cells)` of mean 0 and standard deviation 1.
    """
    spectrum = fft.rfft2(rng.standard_normal((cells, cells), dtype=np.float32))
    fy = fft.fftfreq(cells, tile / cells).astype(np.float32)[:, None]
    fx = fft.rfftfreq(cells, tile / cells).astype(np.float32)[None] * stretch
    frequency = np.sqrt(fx**2 + fy**2)
    frequency[0, 0] = 1e-6
    spectrum *= np.exp(-(np.log(frequency * wavelength) ** 2) / (2 * spread**2))
    spectrum[0, 0] = 0
    field = fft.irfft2(spectrum, s=(cells, cells))
    return (field / (field.std() + 1e-9)).astype(np.float32)


def ridges(field: Array, width: float) -> Array:
    """Thin winding lines in [0, 1] along the zero level of a field (vessels, creases)."""
    return np.exp(-((field / width) ** 2))


def sample(tiles: Array, u: Array, v: Array) -> Array:
    """Look up periodic fields `(cells, cells, channels)`, bilinearly, at `u`, `v` in periods: `(…, channels)`."""
    cells = tiles.shape[0]
    u = (u - np.floor(u)) * cells
    v = (v - np.floor(v)) * cells
    left, top = u.astype(np.int32), v.astype(np.int32)
    du, dv = (u - left)[..., None], (v - top)[..., None]
    left, top = left % cells, top % cells
    right, bottom = (left + 1) % cells, (top + 1) % cells
    flat = tiles.reshape(-1, tiles.shape[-1])
    upper = flat[top * cells + left] * (1 - du) + flat[top * cells + right] * du
    lower = flat[bottom * cells + left] * (1 - du) + flat[bottom * cells + right] * du
    return upper * (1 - dv) + lower * dv


def enlarge(field: Array, shape: tuple[int, int]) -> Array:
    """Resize a smooth field to `(H, W)` without facets."""
    return np.asarray(Image.fromarray(field).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
