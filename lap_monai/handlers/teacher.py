"""What a teacher says about the images that the network has just segmented."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn

from lap_monai.handlers.engine_values import engine_values
from lap_monai.keys import IMAGE, PRED


class TeacherPredictions:
    """Leave a teacher's logits of the decoded images on `engine.state`, once an iteration, for any number of losses.

    A `LossInjector` finds them by name. They stay off the engine's output, which MONAI would decollate as predictions.
    List it after `UnpackOutputs`, which tells how many of the images were decoded.

    Args:
        teacher: frozen network from images `(B, 3, H, W)` to logits `(B, K, H, W)`, see
            `lap_monai.networks.load_teacher`; on the engine's device.
        name: of the attribute of `engine.state`.
    """

    def __init__(self, teacher: nn.Module, name: str = "teacher_logits") -> None:
        self.teacher = teacher
        self.name = name

    def attach(self, engine: Engine) -> None:
        """Ask the teacher after each forward pass of the trainer `engine`."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        image, logits = engine_values(engine, (IMAGE, PRED))
        setattr(engine.state, self.name, self.teacher(image[: len(logits)]))
