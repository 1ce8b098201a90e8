"""The second stage: a network whose encoder was trained before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from lap_monai.checkpoints import read_checkpoint
from lap_monai.checks import UserError
from lap_monai.networks import encoder_modules, encoder_state_names


class PretrainedEncoder:
    """Give a network the encoder of a checkpoint when a training starts, and keep it as it is if it is to be frozen.

    The decoder stays as it was initialised. A frozen encoder gets no gradients and works as in evaluation: its batch
    statistics stay, it drops nothing out. A resumed training keeps the encoder of its own checkpoint, so list this
    handler after `ResumeCheckpoint`.

    Args:
        path: checkpoint of a plain network, such as the `model.pt` of a pre-training; None is refused.
        network: the plain network, which `lap_monai.networks.encoder_decoder` can split.
        freeze: whether the encoder is kept as it is.
        identity: names that must agree with those in the checkpoint.

    Raises:
        UserError: when attached, if `path` is None.
    """

    def __init__(
        self,
        path: str | Path | None,
        network: nn.Module,
        freeze: bool = True,
        identity: Mapping[str, str] | None = None,
    ) -> None:
        if path is None:
            raise UserError("Set encoder_checkpoint to the model.pt of a pre-training (overlay pretrain.json).")
        self.path, self.network, self.freeze, self.identity = Path(path), network, freeze, identity

    def attach(self, engine: Engine) -> None:
        """Load (and freeze) before the first iteration of the trainer `engine`."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.iteration == 0:  # otherwise a checkpoint of this very training has been loaded
            read_checkpoint(self.path, {"model": _EncoderState(self.network)}, self.identity)
        if self.freeze:
            for module in encoder_modules(self.network).values():
                module.requires_grad_(False)
                # The engine puts the whole network into training mode before every step.
                module.register_forward_pre_hook(_stay_in_evaluation)


class _EncoderState:
    """The part of a network's state that is its encoder's."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, torch.Tensor]:
        state = self.network.state_dict()
        return {name: state[name] for name in encoder_state_names(self.network)}

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        encoder = {name: state_dict[name] for name in encoder_state_names(self.network) if name in state_dict}
        missing, _ = self.network.load_state_dict(encoder, strict=False)
        if absent := set(missing) & set(encoder_state_names(self.network)):
            raise ValueError(f"it has no {min(absent)} and {len(absent) - 1} more; was another network pre-trained?")


def _stay_in_evaluation(module: nn.Module, _inputs: Any) -> None:
    module.training = False
