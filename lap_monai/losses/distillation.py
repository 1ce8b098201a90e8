"""A student's pixels imitate a teacher's."""

from __future__ import annotations

from torch import Tensor, nn

from lap_monai.keys import IGNORE_INDEX
from lap_monai.losses.pixel_scores import mean_over_images
from lap_monai.losses.precision import full_precision


class DistillationLoss(nn.Module):
    """Distance of a student's class probabilities from a teacher's, pixel by pixel (Hinton et al. 2015, section 2).

    `T^2 * KL(softmax(teacher / T) || softmax(student / T))`: the mean over the pixels of each image, then the mean over
    the images. The factor keeps the gradient's scale the same for every temperature. No gradient flows into the
    teacher.

    Args:
        temperature: T, above 0; the higher, the more the classes that are not the likeliest count.
        ignore_index: label of pixels that do not count, where labels are given.
    """

    def __init__(self, temperature: float = 2.0, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"DistillationLoss: expected temperature > 0, got {temperature}.")
        self.temperature = temperature
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, teacher_logits: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar of at least 0; zero and connected to the graph if no pixel counts.

        Args:
            logits: the student's scores before the softmax, `(M, C, H, W)`.
            teacher_logits: the teacher's, `(M, C, H, W)`.
            label: class ids `(M, 1, H, W)`, of which only the ignored ones matter; None counts every pixel.

        Raises:
            ValueError: if the shapes do not fit together.
        """
        if logits.ndim < 3 or teacher_logits.shape != logits.shape:
            raise ValueError(
                "DistillationLoss: expected logits of student and teacher of one shape (M, C, H, W), "
                f"got {tuple(logits.shape)} and {tuple(teacher_logits.shape)}."
            )
        student, teacher = (
            (full_precision(scores).flatten(2) / self.temperature).log_softmax(dim=1)
            for scores in (logits, teacher_logits.detach())
        )
        divergence = (teacher.exp() * (teacher - student)).sum(dim=1)  # (M, Q)
        if label is None:
            per_image = divergence.sum(dim=1) / max(divergence.shape[1], 1)
        else:
            valid = self._valid(logits, label)
            per_image = (divergence * valid).sum(dim=1) / valid.sum(dim=1).clamp_min(1)
        return self.temperature**2 * mean_over_images(per_image)

    def _valid(self, logits: Tensor, label: Tensor) -> Tensor:
        expected = (logits.shape[0], 1, *logits.shape[2:])
        if label.shape != expected:
            raise ValueError(f"DistillationLoss: expected labels of shape {expected}, got {tuple(label.shape)}.")
        return label.flatten(1) != self.ignore_index
