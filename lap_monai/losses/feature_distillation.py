"""The encoder stays near the previous one."""

from __future__ import annotations

from torch import Tensor, nn

from lap_monai.losses.precision import full_precision


class FeatureDistillationLoss(nn.Module):
    """Mean squared difference of the encoder's deepest features (ILT, Michieli and Zanuttigh 2019, eq. 5)."""

    def forward(self, features: tuple[Tensor, ...], teacher_features: tuple[Tensor, ...]) -> Tensor:
        """Return the loss, a scalar of at least 0.

        Args:
            features: the student's feature maps `(B, C_l, H_l, W_l)`, finest first.
            teacher_features: the previous network's, of the same shapes.
        """
        student, teacher = full_precision(features[-1]), full_precision(teacher_features[-1])
        return nn.functional.mse_loss(student, teacher.detach())
