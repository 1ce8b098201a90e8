"""Random numbers that a resumed training draws like the uninterrupted one."""

from __future__ import annotations

import numpy as np
import torch
from ignite.engine import Engine, Events


class IterationSeed:
    """Seed torch in every iteration from the run's seed and the iteration.

    What an iteration draws on the device (the noise and the times of a diffusion training) is then the same whether
    or not the run was interrupted before, and on every rank: `PrepareNoise` gives each rank rows of its own.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Seed the iterations of `engine`."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        words = [self.seed, engine.state.iteration]
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1)))
