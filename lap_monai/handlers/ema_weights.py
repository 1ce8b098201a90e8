"""The average of a network's weights over the training, from which a generator draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class EmaWeights:
    """Keep an exponential moving average of a network; `network` is it, a plain network in evaluation mode.

    Weights enter the average in the iteration after the step that made them, once they have given a finite loss. So,
    listed behind `StopOnNonFinite`, the average never holds a broken network. The share of the old average grows with
    the steps n as (1 + n) / (10 + n), up to `decay`, so that the random start is soon forgotten.

    The average is part of the training's state: put this handler among the objects of `LastCheckpoint`, and
    `network` into the `model.pt` from which images are drawn.

    Args:
        network: the network that is trained, without the wrapper of a distributed training.
        decay: share of the old average at most, 0 to 1.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EmaWeights: expected a decay from 0 to below 1, got {decay}.")
        self.trained, self.decay = network, decay
        self.average = AveragedModel(network, multi_avg_fn=self._blend)
        self.average.update_parameters(network)  # the first call copies
        self.average.requires_grad_(False).eval()

    @property
    def network(self) -> nn.Module:
        """The averaged network."""
        return self.average.module

    def attach(self, engine: Engine) -> None:
        """Follow the network of the trainer `engine`."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, _engine: Engine) -> None:
        self.average.update_parameters(self.trained)

    @torch.no_grad()
    def _blend(self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Any) -> None:
        n = int(count)
        torch._foreach_lerp_(list(averaged), list(current), 1 - min(self.decay, (1 + n) / (10 + n)))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average and how many weights are in it."""
        return self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Take an average."""
        self.average.load_state_dict(state_dict)
