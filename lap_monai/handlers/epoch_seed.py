"""Tell a sampler which epoch begins."""

from __future__ import annotations

from typing import Protocol

from ignite.engine import Engine, Events


class HasEpoch(Protocol):
    """A sampler whose order is a function of its seed and the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration the order of `epoch`."""


class EpochSeed:
    """Set the sampler's epoch when an epoch starts, so that a resumed run draws what the uninterrupted one would have.

    MONAI does this for a `DistributedSampler` only.
    """

    def __init__(self, sampler: HasEpoch) -> None:
        self.sampler = sampler

    def attach(self, engine: Engine) -> None:
        """Follow the epochs of `engine`."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.sampler.set_epoch(engine.state.epoch)
