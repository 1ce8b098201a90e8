"""The target network of BYOL."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lap_monai.handlers.engine_values import engine_values
from lap_monai.keys import IMAGE, VIEW


class EmaTarget:
    """Embed both views with a slowly moving average of the network (BYOL, Grill et al. 2020, eq. 1).

    After each forward pass `engine.state.targets` and `engine.state.view_targets` hold its embeddings, after each step
    the average moves by `1 - momentum` towards the network. The average is part of the training's state: put this
    handler among the objects of `LastCheckpoint`.

    Deviation: the momentum is constant, where the paper's grows to 1.

    Args:
        network: the `MultiTaskSegmenter` that is trained, without the wrapper of a distributed training.
        momentum: share of the old average, 0 to 1.
    """

    def __init__(self, network: nn.Module, momentum: float = 0.99) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"EmaTarget: expected a momentum from 0 to 1, got {momentum}.")
        self.network = network
        self.momentum = momentum
        self.average = self._copy()

    def attach(self, engine: Engine) -> None:
        """Follow the network of the trainer `engine`."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._embed)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._follow)

    def _copy(self) -> AveragedModel:
        average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(self.momentum))
        average.update_parameters(self.network)  # the first call copies
        return average.requires_grad_(False).train()  # in training mode it embeds

    @torch.no_grad()
    def _embed(self, engine: Engine) -> None:
        image, view = engine_values(engine, (IMAGE, VIEW))
        output = self.average(image, decode=0, view=view)
        state: Any = engine.state
        state.targets, state.view_targets = output.embeddings, output.view_embeddings

    def _follow(self, _engine: Engine) -> None:
        self.average.update_parameters(self.network)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average."""
        return self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Take an average."""
        self.average.load_state_dict(state_dict)
