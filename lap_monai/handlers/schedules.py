"""Loss weights that change during training."""

from __future__ import annotations


class LinearRamp:
    """A loss weight that goes from `start` to `end` in a straight line over the first `epochs` epochs, then stays.

    Args:
        start: weight at the first iteration.
        end: weight from epoch `epochs` on.
        epochs: length of the ramp, more than 0.
    """

    def __init__(self, start: float, end: float, epochs: float) -> None:
        if epochs <= 0:
            raise ValueError(f"LinearRamp: expected epochs > 0, got {epochs}.")
        self.start, self.end, self.epochs = start, end, epochs

    def __call__(self, epoch: float) -> float:
        return self.start + (self.end - self.start) * min(epoch / self.epochs, 1.0)
