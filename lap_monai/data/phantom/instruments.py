"""Instruments: thin, metallic, entering from outside the scope's circle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from lap_monai.data.phantom.motion import Sway
from lap_monai.data.phantom.noise import Array


class _Part(NamedTuple):
    """A piece of an instrument: signed distance, position across in [-1, 1], colour."""

    depth: Array
    round: Array
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Instrument:
    """A long instrument in picture coordinates.

    Args:
        label: class id of its pixels.
        kind: `"grasper"` (two fenestrated jaws) or `"hook"` (sleeve and a bent wire).
        tip: where it points.
        angle: direction from the tip back to where it enters, radians.
        width: half the width of the shaft near its front.
        shaft: colour of the shaft, RGB in [0, 1].
        sleeve: colour of the hook's insulation.
        sway: motion of the tip.
        opening: half the angle between a grasper's jaws, radians.
    """

    label: int
    kind: Literal["grasper", "hook"]
    tip: tuple[float, float]
    angle: float
    width: float
    shaft: tuple[float, float, float]
    sleeve: tuple[float, float, float]
    sway: Sway
    opening: float = 0.2

    def distance(self, x: Array, y: Array, time: float) -> Array:
        """Signed distance to its outline, positive on it."""
        parts = self._parts(*self._along_and_across(x, y, time), time)
        return np.maximum.reduce([part.depth for part in parts])

    def colour(self, x: Array, y: Array, time: float) -> Array:
        """Its colour at points on it, `x.shape + (3,)`, shaded as cylinders."""
        parts = self._parts(*self._along_and_across(x, y, time), time)
        nearest = np.argmax([part.depth for part in parts], axis=0)
        colours = np.stack([_cylinder(part.round, part.colour) for part in parts])
        return np.take_along_axis(colours, nearest[None, ..., None], axis=0)[0]

    def _along_and_across(self, x: Array, y: Array, time: float) -> tuple[Array, Array]:
        """Distance from the tip along the shaft, and across it."""
        dx, dy = self.sway.at(time)
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        px, py = x - np.float32(self.tip[0] + dx), y - np.float32(self.tip[1] + dy)
        return px * cos + py * sin, py * cos - px * sin

    def _parts(self, along: Array, across: Array, time: float) -> list[_Part]:
        return self._grasper(along, across, time) if self.kind == "grasper" else self._hook(along, across)

    def _shaft(self, along: Array, across: Array, start: float) -> _Part:
        """The shaft behind `start`, wider towards the viewer."""
        radius = np.float32(self.width) * (1 + 0.5 * np.maximum(along - np.float32(start), 0))
        return _Part(np.minimum(radius - np.abs(across), along - np.float32(start)), across / radius, self.shaft)

    def _grasper(self, along: Array, across: Array, time: float) -> list[_Part]:
        jaw, half = np.float32(6.0 * self.width), np.float32(0.38 * self.width)
        spread = np.float32(np.tan(self.opening * (1 + 0.4 * np.sin(2.3 * time))))
        side = np.abs(across) - spread * np.maximum(jaw - along, 0)
        prong = np.minimum(half - np.abs(side), np.minimum(along, jaw + np.float32(0.01) - along))
        return [self._shaft(along, across, float(jaw)), _Part(prong, side / half, (0.46, 0.46, 0.48))]

    def _hook(self, along: Array, across: Array) -> list[_Part]:
        wire_end, sleeve_end = np.float32(2.4 * self.width), np.float32(7.0 * self.width)
        width, half, joint = np.float32(self.width), np.float32(0.34 * self.width), np.float32(0.01)
        taper = width * np.clip(0.35 + 0.55 * (along - wire_end) / (sleeve_end - wire_end), 0.35, 0.9).astype(
            np.float32
        )
        sleeve = np.minimum(taper - np.abs(across), np.minimum(along - wire_end, sleeve_end + joint - along))
        wire = np.minimum(half - np.abs(across), np.minimum(along, wire_end + joint - along))
        bend = np.minimum(half - np.abs(along - half), np.minimum(across + half, np.float32(1.7) * width - across))
        metal = _Part(np.maximum(wire, bend), across / half, (0.5, 0.48, 0.46))
        return [self._shaft(along, across, float(sleeve_end)), _Part(sleeve, across / taper, self.sleeve), metal]


def _cylinder(across: Array, colour: tuple[float, float, float]) -> Array:
    """Shade a cylinder: dark rims, a bright line off its middle. `across` is in [-1, 1] over its width."""
    shade = 0.35 + 0.65 * np.sqrt(np.clip(1 - across**2, 0, 1))
    gleam = 0.55 * np.exp(-(((across + 0.35) / 0.22) ** 2))
    return shade[..., None] * np.array(colour, dtype=np.float32) + (gleam * (0.35 + max(colour)))[..., None]
