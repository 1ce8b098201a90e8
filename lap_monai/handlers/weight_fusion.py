"""The network of a step and that of the step before, fused when training ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import Tensor, nn

from lap_monai.checkpoints import read_checkpoint, write_checkpoint
from lap_monai.networks import classifier_axes, fuse_states, fusion_share
from lap_monai.task_stream import TaskStep


class WeightFusion:
    """Write the fusion of two steps' networks when training ends (endpoints weight fusion, Xiao et al. 2023).

    The trained network is read from a file of its own, so that fusing anew, as after a resumed training, gives the
    same result.

    Args:
        trained: file of the network that was trained in this step.
        previous: file of the step before.
        path: file to write, `model.pt` by convention.
        network: a plain network of this step, on which the classifier is found; it is not changed.
        step: the step.
        identity: names that a reader of `path` compares.
    """

    def __init__(
        self,
        trained: str | Path,
        previous: str | Path,
        path: str | Path,
        network: nn.Module,
        step: TaskStep,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.trained, self.previous, self.path = trained, previous, path
        self.network, self.step, self.identity = network, step, identity

    def attach(self, engine: Engine) -> None:
        """Fuse when the trainer `engine` has finished."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, _engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        trained, previous = _State(), _State()
        read_checkpoint(self.trained, {"model": trained})
        read_checkpoint(self.previous, {"model": previous})
        axes = classifier_axes(self.network)
        fused = fuse_states(previous.state, trained.state, axes, fusion_share(self.step))
        write_checkpoint(self.path, {"model": _State(fused)}, self.identity)


class _State:
    """Weights without a network."""

    def __init__(self, state: Mapping[str, Tensor] | None = None) -> None:
        self.state: Mapping[str, Tensor] = state or {}

    def state_dict(self) -> Mapping[str, Tensor]:
        return self.state

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        self.state = state_dict
