"""Distillation that expects new classes where the teacher sees background."""

from __future__ import annotations

from torch import Tensor, nn

from lap_monai.losses.distillation import DistillationLoss
from lap_monai.losses.folding import check_teacher, fold_into_background
from lap_monai.losses.precision import full_precision
from lap_monai.task_stream import TaskStep


class UnbiasedDistillationLoss(nn.Module):
    """Distillation in which the student's background and new classes together are the teacher's background.

    Modeling the background (MiB), Cermelli et al. 2020, eq. 7 and 8. The teacher saw the new classes when it learned
    what background is, so a student that recognises them agrees with it.

    Deviation: the divergence instead of the cross-entropy, which differ by the teacher's entropy: the gradient is the
    same, and a student that agrees has loss 0.

    Args:
        step: the step that the student learns.
    """

    head = "softmax"

    def __init__(self, step: TaskStep) -> None:
        super().__init__()
        self.step = step
        self.distillation = DistillationLoss(temperature=1.0)

    def forward(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the loss, a scalar of at least 0: the mean over the pixels of the sum over the teacher's classes.

        Args:
            logits: the student's, `(B, C, H, W)` in the channels of the step.
            teacher_logits: the previous network's, `(B, 1 + old, H, W)`.

        Raises:
            ValueError: if the channels are not those of the step.
        """
        check_teacher(logits, teacher_logits, self.step, type(self).__name__)
        log_p = full_precision(logits).log_softmax(dim=1)
        # Log-probabilities are logits of themselves, whatever softmax follows.
        return self.distillation(fold_into_background(log_p, self.step.new_channels), teacher_logits)
