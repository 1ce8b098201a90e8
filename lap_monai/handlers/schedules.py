"""Loss weights and learning rates that change during training."""

from __future__ import annotations

from collections.abc import Callable


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


def polynomial_decay(iterations: int, power: float = 0.9) -> Callable[[int], float]:
    """Return the factor `(1 - t / iterations) ** power` of a learning rate at iteration t, for PyTorch's `LambdaLR`.

    A `PolynomialLR` keeps its end in its state, so a resumed training that is given more epochs would learn nothing in
    them. A `LambdaLR` keeps no function, so the end is the config's.

    Args:
        iterations: of the whole training, at least 1; from then on the factor is 0.
        power: 0.9 in MiB and PLOP, 1 for a straight line.
    """
    if iterations < 1:
        raise ValueError(f"polynomial_decay: expected at least 1 iteration, got {iterations}.")
    return lambda iteration: max(0.0, 1 - iteration / iterations) ** power
