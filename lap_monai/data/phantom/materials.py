"""Tissue surfaces. The *pattern* belongs to the tissue, the *colour* to the patient.

So a pixel's colour says little about its class, while its surroundings say much: liver is finely mottled, fat
lobulated, the abdominal wall striped, connective tissue fibrous, the gallbladder smooth with branching vessels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lap_monai.data.phantom.noise import Array, band_noise, ridges

#: Length after which a texture repeats: a little more than what the scope sees at once.
TILE = 1.1


@dataclass(frozen=True)
class Material:
    """A tissue's surface in one patient.

    Args:
        texture: `(cells, cells, 5)`: colour (3, in [0, 1]) and the two slopes of the surface's small relief.
        gloss: strength of highlights.
        shininess: exponent of highlights; the larger, the smaller they are.
    """

    texture: Array
    gloss: float
    shininess: float


@dataclass(frozen=True)
class Pattern:
    """What distinguishes one tissue from another, whatever its colour.

    Args:
        tint: brightness pattern, mean 0.
        relief: surface height.
        stain: in [0, 1], where the second colour shows (vessels, creases, patches).
    """

    tint: Array
    relief: Array
    stain: Array


Noise = Callable[..., Array]


def _mottled(noise: Noise) -> Pattern:
    """Liver: a pale network of fine lobules over broad shades."""
    network = ridges(noise(0.045, spread=0.25), 0.35)
    tint = 0.08 * noise(0.5) + 0.09 * (network - 0.4) + 0.025 * noise(0.02)
    return Pattern(tint, 0.0007 * noise(0.03) + 0.012 * noise(0.4), 0.5 * network)


def _veined(noise: Noise) -> Pattern:
    """Gallbladder: smooth, with branching vessels."""
    trunks = ridges(noise(0.42, spread=0.35), 0.06) * _some(noise(0.5), -0.6)
    twigs = ridges(noise(0.16, spread=0.35), 0.07) * _some(noise(0.4), 0.2)
    return Pattern(0.08 * noise(0.5), 0.0006 * noise(0.12), np.clip(trunks + 0.7 * twigs, 0, 1))


def _lobulated(noise: Noise) -> Pattern:
    """Fat: bulging lobules parted by dark creases."""
    field = np.minimum(np.abs(noise(0.20, spread=0.3)), np.abs(noise(0.24, spread=0.3)))
    lobules = 1 - np.exp(-2.5 * field)
    crease = np.exp(-((field / 0.10) ** 2))
    vessels = ridges(noise(0.4, spread=0.3), 0.05) * _some(noise(0.5), 0.5)
    tint = 0.30 * (lobules - 0.6) + 0.07 * noise(0.4)
    return Pattern(tint, 0.008 * lobules + 0.006 * noise(0.3), np.clip(0.6 * crease + 0.9 * vessels, 0, 1))


def _striped(noise: Noise) -> Pattern:
    """Abdominal wall: parallel muscle fibres with pale lines between them, and fine vessels across."""
    stripes = noise(0.06, spread=0.25, stretch=7.0)
    lines = ridges(noise(0.13, spread=0.3, stretch=6.0), 0.12)
    return Pattern(0.10 * stripes + 0.09 * noise(0.5), 0.0013 * stripes + 0.006 * noise(0.4), 0.6 * lines)


def _fibrous(noise: Noise) -> Pattern:
    """Connective tissue: crossing strands at high contrast, with holes between them."""
    strands = ridges(noise(0.045, spread=0.3, stretch=4.0), 0.35)
    crossing = ridges(noise(0.06, spread=0.3).T, 0.30)
    web = np.maximum(strands, 0.8 * crossing)
    return Pattern(0.36 * (web - 0.5), 0.0045 * web, np.clip(1.1 - 1.5 * web, 0, 1))


def _smooth(noise: Noise) -> Pattern:
    """Bowel: a soft sheen and a fine net of vessels."""
    net = ridges(noise(0.14, spread=0.3), 0.08) * _some(noise(0.3), 0.0)
    return Pattern(0.06 * noise(0.5), 0.003 * noise(0.3), 0.6 * net)


def _folded(noise: Noise) -> Pattern:
    """Small bowel and ligaments: broad transverse folds."""
    folds = noise(0.11, spread=0.18, stretch=0.25)
    return Pattern(0.08 * folds, 0.004 * folds, 0.5 * ridges(noise(0.16, spread=0.3), 0.08))


def _liquid(noise: Noise) -> Pattern:
    """Blood: flat and mirror-like."""
    pools = noise(0.25)
    return Pattern(0.12 * pools, 0.003 * pools, 0.4 * _some(pools, 0.8))


def _granular(noise: Noise) -> Pattern:
    """Pancreas and glands: coarse grains."""
    grains = np.abs(noise(0.075, spread=0.2))
    return Pattern(0.14 * (grains - 0.8), 0.004 * grains, ridges(grains, 0.15))


def _some(field: Array, level: float) -> Array:
    """A soft mask in [0, 1] of where a field exceeds a level."""
    return np.clip(2.5 * (field - level) + 0.5, 0, 1)


PATTERNS: dict[str, Callable[[Noise], Pattern]] = {
    "mottled": _mottled,
    "veined": _veined,
    "lobulated": _lobulated,
    "striped": _striped,
    "fibrous": _fibrous,
    "smooth": _smooth,
    "folded": _folded,
    "liquid": _liquid,
    "granular": _granular,
}

#: Gloss and shininess of each pattern.
_SHEEN = {
    "mottled": (0.75, 260.0),
    "veined": (0.45, 40.0),
    "lobulated": (0.45, 110.0),
    "striped": (0.15, 40.0),
    "fibrous": (0.4, 110.0),
    "smooth": (0.5, 70.0),
    "folded": (0.5, 70.0),
    "liquid": (1.0, 160.0),
    "granular": (0.4, 70.0),
}


def make_material(rng: np.random.Generator, pattern: str, colour: Array, second: Array, cells: int) -> Material:
    """Make one patient's version of a tissue.

    Args:
        rng: where the randomness comes from.
        pattern: a key of `PATTERNS`.
        colour: main colour `(3,)` in [0, 1].
        second: colour of vessels, creases and patches `(3,)`.
        cells: samples along a side of the texture.
    """

    def noise(wavelength: float, spread: float = 0.5, stretch: float = 1.0) -> Array:
        return band_noise(rng, cells, TILE, wavelength * scale, spread, stretch)

    scale = rng.uniform(0.85, 1.2)
    drawn = PATTERNS[pattern](noise)
    stain = drawn.stain[..., None] * np.float32(rng.uniform(0.6, 1.0))
    rgb = (colour * (1 - stain) + second * stain) * (1 + drawn.tint[..., None])
    step = np.float32(2 * TILE / cells)
    slope_x = (np.roll(drawn.relief, -1, 1) - np.roll(drawn.relief, 1, 1)) / step
    slope_y = (np.roll(drawn.relief, -1, 0) - np.roll(drawn.relief, 1, 0)) / step
    gloss, shininess = _SHEEN[pattern]
    texture = np.dstack([np.clip(rgb, 0.02, 1), slope_x, slope_y]).astype(np.float32)
    return Material(texture, gloss * rng.uniform(0.5, 1.3), shininess * rng.uniform(0.7, 1.4))
