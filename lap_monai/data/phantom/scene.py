"""What stands before the camera: layers of tissue, instruments, light, lens, and how they move.

Coordinates: x to the right, y down, the origin in the middle of the picture, lengths in units of the image height. Time
is in seconds from the start of the clip; everything is a smooth function of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lap_monai.data.phantom.instruments import Instrument
from lap_monai.data.phantom.materials import Material
from lap_monai.data.phantom.motion import STILL, Sway
from lap_monai.data.phantom.noise import Array, band_noise
from lap_monai.data.phantom.shapes import Shape


@dataclass(frozen=True)
class Layer:
    """A piece of tissue in front of the ones listed before it.

    Args:
        label: class id of its pixels.
        material: name of its material in the scene.
        shape: its outline before raggedness and sway.
        bulge: how far its surface rises from the rim.
        rim: distance from the rim over which it rises.
        ragged: amplitude of the irregular outline.
        shadow: how dark its shadow is on what lies behind, 0 to 1.
        sway: its own motion besides the camera's.
        grain: angle of its texture, radians.
    """

    label: int
    material: str
    shape: Shape
    bulge: float = 0.06
    rim: float = 0.12
    ragged: float = 0.012
    shadow: float = 0.5
    sway: Sway = STILL
    grain: float = 0.0


@dataclass(frozen=True)
class Camera:
    """Where the scope looks: `pan` is the scene point in the middle, `roll` in radians, motion on top of it."""

    pan: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    roll: float = 0.0
    sway: Sway = STILL


@dataclass(frozen=True)
class Optics:
    """Light and lens of one patient.

    Args:
        centre, radius: the scope's circle in the picture; black outside.
        light: where the brightest point lies, and how far in front of the tissue the lamp is.
        falloff: how fast the light fades towards the rim.
        exposure: overall gain.
        tint: colour of the light, RGB gains.
        haze: lens fog, 0 to 1.
        noise: standard deviation of the sensor noise, in grey levels.
    """

    centre: tuple[float, float]
    radius: float
    light: tuple[float, float, float]
    falloff: float
    exposure: float
    tint: tuple[float, float, float]
    haze: float
    noise: float

    @property
    def gains(self) -> Array:
        """The light's colour as an array `(3,)`."""
        return np.array(self.tint, dtype=np.float32)


@dataclass(frozen=True)
class Irregularity:
    """Random fields, fixed to a patient's body, that bend and fray all outlines.

    `fields` is `(cells, cells, 5)`: displacement in x and y, coarse and fine fraying, smoke density.
    """

    fields: Array
    tile: float = 2.4

    @classmethod
    def draw(cls, rng: np.random.Generator, cells: int = 128) -> Irregularity:
        """Draw a patient's own."""
        waves = ((0.7, 0.4), (0.7, 0.4), (0.16, 0.4), (0.06, 0.3), (0.5, 0.6))
        return cls(np.dstack([band_noise(rng, cells, cls.tile, length, spread) for length, spread in waves]))


@dataclass(frozen=True)
class Scene:
    """All that one clip shows.

    Args:
        layers: tissue, back to front; the first one must cover everything.
        instruments: in front of all tissue.
        smoke: density of surgical smoke, 0 to 1.
        bend: amplitude of the displacement that makes straight outlines crooked.
        breath: amplitude of the up and down of breathing.
    """

    layers: tuple[Layer, ...]
    materials: dict[str, Material]
    camera: Camera
    optics: Optics
    irregularity: Irregularity
    instruments: tuple[Instrument, ...] = ()
    smoke: float = 0.0
    bend: float = 0.04
    breath: float = 0.006
    breath_period: float = 2.0
    black_label: int = 0
