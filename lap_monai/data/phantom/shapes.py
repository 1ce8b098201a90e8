"""Shapes as signed distances: positive inside, in units of the image height. Exact enough near their edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lap_monai.data.phantom.noise import Array

#: `(x, y)` in scene coordinates → signed distance, positive inside.
Shape = Callable[[Array, Array], Array]
Point = tuple[float, float]


def below(height: float, slope: float = 0.0, wave: float = 0.0, phase: float = 0.0) -> Shape:
    """Everything under the curve `y = height + slope x + wave sin(5 x + phase)` (y points down)."""

    def distance(x: Array, y: Array) -> Array:
        return (y - height - slope * x - wave * np.sin(5 * x + phase)) / np.float32(np.hypot(1, slope))

    return distance


def ellipse(centre: Point, radii: Point, angle: float = 0.0) -> Shape:
    """An ellipse, its first radius turned by `angle` (radians) from x."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))

    def distance(x: Array, y: Array) -> Array:
        dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
        along, across = (dx * cos + dy * sin) / radii[0], (dy * cos - dx * sin) / radii[1]
        return (1 - np.sqrt(along**2 + across**2)) * np.float32(np.min(np.array(radii)))

    return distance


def capsule(start: Point, end: Point, start_radius: float, end_radius: float) -> Shape:
    """A straight tube whose radius changes from one end to the other."""
    ax, ay = np.float32(start[0]), np.float32(start[1])
    bx, by = np.float32(end[0] - start[0]), np.float32(end[1] - start[1])
    square = bx * bx + by * by + np.float32(1e-8)

    def distance(x: Array, y: Array) -> Array:
        dx, dy = x - ax, y - ay
        share = np.clip((dx * bx + dy * by) / square, 0, 1)
        radius = start_radius + share * np.float32(end_radius - start_radius)
        return radius - np.hypot(dx - share * bx, dy - share * by)

    return distance


def tube(points: Sequence[Point], start_radius: float, end_radius: float) -> Shape:
    """A bent tube through the points."""
    radii = np.linspace(start_radius, end_radius, len(points))
    return union(*(capsule(points[i], points[i + 1], radii[i], radii[i + 1]) for i in range(len(points) - 1)))


def union(*shapes: Shape) -> Shape:
    """All of the shapes."""

    def distance(x: Array, y: Array) -> Array:
        result = shapes[0](x, y)
        for shape in shapes[1:]:
            result = np.maximum(result, shape(x, y))
        return result

    return distance


def intersection(*shapes: Shape) -> Shape:
    """What the shapes share."""

    def distance(x: Array, y: Array) -> Array:
        result = shapes[0](x, y)
        for shape in shapes[1:]:
            result = np.minimum(result, shape(x, y))
        return result

    return distance


def everywhere() -> Shape:
    """The whole picture."""

    def distance(x: Array, y: Array) -> Array:
        return np.full(np.broadcast(x, y).shape, 10, dtype=np.float32)

    return distance
