"""Colours of tissues, drawn per patient from ranges that overlap on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lap_monai.data.phantom.noise import Array

RGB = tuple[int, int, int]


def draw_colour(rng: np.random.Generator, modes: Sequence[RGB], spread: float = 8.0) -> Array:
    """Mix a colour of the modes, mostly one of them and rather an early one, and shift it; `(3,)` in [0, 1]."""
    weights = rng.dirichlet(np.linspace(0.6, 0.25, len(modes)))
    colour = (weights @ np.array(modes, dtype=np.float64)) * rng.uniform(0.8, 1.15) + rng.normal(0, spread, 3)
    return (np.clip(colour, 8, 250) / 255).astype(np.float32)


def draw_palette(
    rng: np.random.Generator, modes: Mapping[str, Sequence[RGB]], seconds: Mapping[str, Sequence[RGB]]
) -> dict[str, tuple[Array, Array]]:
    """Draw a patient's main and second colour of every tissue, all seen with the same saturation."""
    saturation = np.float32(rng.uniform(0.9, 1.2))

    def grade(colour: Array) -> Array:
        grey = colour.mean()
        graded = np.clip(grey + saturation * (colour - grey), 0.02, 0.86)
        graded[0] = max(graded[0], 1.22 * graded[1])  # blood shines through: no tissue is greener than red
        return graded.astype(np.float32)

    return {name: (grade(draw_colour(rng, modes[name])), grade(draw_colour(rng, seconds[name]))) for name in modes}
