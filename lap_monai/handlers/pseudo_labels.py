"""Labels that networks complete, for any number of losses."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from lap_monai.handlers.engine_values import engine_values
from lap_monai.keys import HAS_MASK, KNOWLEDGE, LABEL
from lap_monai.losses import complete_labels, teacher_channels
from lap_monai.task_stream import TaskStep


class PseudoLabels:
    """Leave `engine.state.pseudo_label`: the batch's labels, completed where teacher and expert are confident.

    List it after `TeacherTargets`, whose answers it reads; without one before it the labels stay as they are.

    Args:
        step: the step that is learned.
        confidence: least probability of a class that is filled in, above 0.5.
        sigmoid: whether the networks' channels are sigmoids of their own.
    """

    def __init__(self, step: TaskStep, confidence: float = 0.7, sigmoid: bool = False) -> None:
        if not 0.5 < confidence <= 1:
            raise ValueError(f"PseudoLabels: expected a confidence above 0.5 and up to 1, got {confidence}.")
        self.step, self.confidence, self.sigmoid = step, confidence, sigmoid

    def attach(self, engine: Engine) -> None:
        """Complete after each forward pass of the trainer `engine`."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        label, has_mask, knowledge = engine_values(engine, (LABEL, HAS_MASK, KNOWLEDGE))
        teacher, expert = (getattr(state, name, None) for name in ("teacher_logits", "expert_logits"))
        options: dict[str, Any] = {"confidence": self.confidence, "sigmoid": self.sigmoid}
        if teacher is not None:
            label = complete_labels(
                label, teacher, teacher_channels(self.step), labelled=has_mask, knowledge=knowledge, **options
            )
        if expert is not None:
            others = len(label) - len(expert)
            completed = complete_labels(
                label[others:],
                expert,
                (0, *self.step.new_channels),
                labelled=has_mask[others:],
                knowledge=knowledge[others:],
                **options,
            )
            label = torch.cat([label[:others], completed])
        state.pseudo_label = label
