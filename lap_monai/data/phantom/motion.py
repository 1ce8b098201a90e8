"""Smooth motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sway:
    """A smooth wandering around a point: two sines per axis.

    Args:
        amplitude: in units of the image height, about the largest offset.
        periods: in seconds, one per sine.
        phases: of the two sines in x, then in y.
    """

    amplitude: float = 0.0
    periods: tuple[float, float] = (1.0, 1.0)
    phases: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @classmethod
    def draw(cls, rng: np.random.Generator, amplitude: float) -> Sway:
        """Draw a motion of this amplitude."""
        periods = tuple(rng.uniform(0.9, 2.6, 2).tolist())
        return cls(amplitude, periods, tuple(rng.uniform(0, 2 * np.pi, 4).tolist()))

    def at(self, time: float) -> tuple[float, float]:
        """Offset in x and y at a time in seconds."""
        angles = 2 * np.pi * time / np.array(self.periods * 2) + np.array(self.phases)
        waves = self.amplitude * np.array([0.65, 0.35, 0.65, 0.35]) * np.sin(angles)
        return float(waves[0] + waves[1]), float(waves[2] + waves[3])


STILL = Sway()
