"""Learning without forgetting."""

from __future__ import annotations

from torch import Tensor, nn

from lap_monai.losses.distillation import DistillationLoss
from lap_monai.losses.folding import check_teacher, teacher_channels
from lap_monai.task_stream import TaskStep


class OldClassDistillationLoss(nn.Module):
    """Distillation among the classes that the previous network knows (Li and Hoiem 2016, eq. 2 and 3).

    The student's softmax goes over the teacher's channels alone: what it gives to new classes is left out of account,
    not called background as in `UnbiasedDistillationLoss`.

    Args:
        step: the step that the student learns.
        temperature: T of the softmax. Li and Hoiem use 2, comparisons of segmentation methods 1.
    """

    head = "softmax"

    def __init__(self, step: TaskStep, temperature: float = 1.0) -> None:
        super().__init__()
        self.step = step
        self.distillation = DistillationLoss(temperature)

    def forward(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the loss, a scalar of at least 0; zero where student and teacher agree on the old classes.

        Args:
            logits: the student's, `(B, C, H, W)` in the channels of the step.
            teacher_logits: the previous network's, `(B, 1 + old, H, W)`.

        Raises:
            ValueError: if the channels are not those of the step.
        """
        check_teacher(logits, teacher_logits, self.step, type(self).__name__)
        return self.distillation(logits[:, list(teacher_channels(self.step))], teacher_logits)
