"""A step that learns nothing but the classifier of its new classes."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from lap_monai.networks import classifier_axes
from lap_monai.task_stream import TaskStep


class FrozenOld:
    """Keep everything as it is but the classifier's rows of the new classes, and those of the background if wanted.

    The backbone gets no gradients and works as in evaluation: its batch statistics stay, it drops nothing out. The old
    rows are put back after every step, whatever the optimizer did to them (weight decay needs no gradient). List it
    after `PreviousStep` and `ResumeCheckpoint`.

    Args:
        network: the plain network of the step.
        step: what it learns.
        background: whether the background's row is learned too, as a softmax over more classes needs.
    """

    def __init__(self, network: nn.Module, step: TaskStep, background: bool = False) -> None:
        self.network, self.step = network, step
        self.kept = [*([] if background else [0]), *step.old_channels]
        self._rows: list[tuple[Tensor, Tensor]] = []  # views of the rows, and what they were

    def attach(self, engine: Engine) -> None:
        """Freeze when the trainer `engine` starts, restore after each of its steps."""
        engine.add_event_handler(Events.STARTED, self._freeze)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._restore)

    def _freeze(self, _engine: Engine) -> None:
        axes = classifier_axes(self.network)
        self._rows = []
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in axes)
            if name in axes:
                rows = parameter.detach().movedim(axes[name], 0)
                self._rows.append((rows, rows[self.kept].clone()))
        for module in self.network.modules():
            # The engine puts the whole network into training mode before every step.
            module.register_forward_pre_hook(_stay_in_evaluation)

    @torch.no_grad()
    def _restore(self, _engine: Engine) -> None:
        for rows, kept in self._rows:
            rows[self.kept] = kept


def _stay_in_evaluation(module: nn.Module, _inputs: Any) -> None:
    module.training = False
