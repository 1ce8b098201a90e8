"""Tell a sampler which epoch begins."""

from __future__ import annotations

from typing import Protocol

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events


class HasEpoch(Protocol):
    """A sampler whose order is a function of its seed and the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration the order of `epoch`."""


class EpochSeed:
    """Set the sampler's epoch when an epoch starts, so that a resumed run draws what the uninterrupted one would have.

    MONAI does this for a `DistributedSampler` only.

    Args:
        sampler: whose order follows the epoch.
        seed: also seeds torch from it and the epoch, on each rank otherwise, for losses that draw; None leaves torch's
            random state as it is.
    """

    def __init__(self, sampler: HasEpoch, seed: int | None = None) -> None:
        self.sampler = sampler
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Follow the epochs of `engine`."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.sampler.set_epoch(engine.state.epoch)
        if self.seed is not None:
            state = np.random.SeedSequence([self.seed, engine.state.epoch, idist.get_rank()]).generate_state(1)
            torch.manual_seed(int(state[0]))
