"""Where a step begins: at the network of the step before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor, nn

from lap_monai.checkpoints import read_checkpoint
from lap_monai.checks import UserError
from lap_monai.networks import grow_classifier, mute_background
from lap_monai.task_stream import TaskStep


class PreviousStep:
    """Give the network of a step the weights of the step before, and rows for the new classes, when training starts.

    A resumed training keeps the network of its own checkpoint. Without a previous checkpoint, in the first step, the
    network stays as it was initialised.

    Args:
        path: the previous step's `model.pt`; None in the first step.
        network: the plain network of this step.
        step: what it learns.
        init: how the rows of new classes begin, see `grow_classifier`.
        sigmoid: whether its channels are sigmoids; the background's row is then set to 0, see `mute_background`.
        identity: names that must agree with those in the checkpoint, such as stream and channels.

    Raises:
        UserError: if there are old classes and no previous checkpoint, or the other way round.
    """

    def __init__(
        self,
        path: str | Path | None,
        network: nn.Module,
        step: TaskStep,
        init: str = "background",
        sigmoid: bool = False,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        if step.old and path is None:
            raise UserError(
                f"The step knows old classes ({', '.join(step.old)}) but no previous_checkpoint; give the model.pt of "
                "the step before, or list all classes as new."
            )
        if path is not None and not step.old:
            raise UserError(
                "previous_checkpoint is given but the step has no old classes; list what that network knows as "
                "old_classes, in the order of its channels."
            )
        self.path = path
        self.network, self.step, self.init = network, step, init
        self.sigmoid = sigmoid
        self.identity = identity

    def attach(self, engine: Engine) -> None:
        """Load before the first iteration of the trainer `engine`."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.iteration > 0:  # a checkpoint of this very training has been loaded
            return
        if self.path is not None:
            read_checkpoint(self.path, {"model": _Grown(self.network, self.step, self.init)}, self.identity)
        if self.sigmoid:
            mute_background(self.network)


class _Grown:
    """A network that takes the state of a smaller one."""

    def __init__(self, network: nn.Module, step: TaskStep, init: str) -> None:
        self.network, self.step, self.init = network, step, init

    def state_dict(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        grow_classifier(self.network, state_dict, self.step, self.init)
