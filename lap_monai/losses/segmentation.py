"""The supervised segmentation loss: generalised Dice plus focal."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lap_monai.keys import IGNORE_INDEX
from lap_monai.losses.focal import FocalLoss
from lap_monai.losses.pixel_scores import pixel_scores
from lap_monai.losses.squared_generalized_dice import SquaredGeneralizedDiceLoss


class SegmentationLoss(nn.Module):
    """Generalised Dice plus focal loss, the last two terms of Zhang et al. 2024, eq. 8, from one softmax.

    `SquaredGeneralizedDiceLoss` and `FocalLoss` say what is computed, and how ignored pixels and absent classes count.

    Args:
        dice_weight: factor of the generalised Dice term, at least 0.
        focal_weight: factor of the focal term, at least 0.
        gamma: of the focal loss.
        dice_class_weight: `weight` of the generalised Dice loss, `"square"`, `"simple"` or `"uniform"`.
        batch: one Dice over all images of the batch, instead of one per image.
        eps: of the generalised Dice loss.
        ignore_index: label of pixels that do not count.
        class_weight: of the focal loss; see `lap_monai.data.balanced_class_weights`.
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        focal_weight: float = 1.0,
        gamma: float = 2.0,
        dice_class_weight: str = "square",
        batch: bool = False,
        eps: float = 1e-5,
        ignore_index: int = IGNORE_INDEX,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if min(dice_weight, focal_weight) < 0 or dice_weight + focal_weight == 0:
            raise ValueError(
                "SegmentationLoss: expected dice_weight and focal_weight >= 0, one of them > 0, "
                f"got {dice_weight} and {focal_weight}."
            )
        self.dice_weight = dice_weight
        self.focal_weight = focal_weight
        self.ignore_index = ignore_index
        self.dice = SquaredGeneralizedDiceLoss(dice_class_weight, batch, eps, ignore_index)
        self.focal = FocalLoss(gamma, ignore_index, class_weight)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss, a scalar; zero and connected to the graph if no pixel is valid.

        Args:
            logits: scores before the softmax, `(M, C, H, W)`; M may be 0.
            label: class ids `(M, 1, H, W)`, integers; `ignore_index` where the class is unknown.

        Raises:
            ValueError: if the shapes do not fit together, or (on a CPU) a label is no class of the logits.
        """
        scores = pixel_scores(logits, label, self.ignore_index, type(self).__name__)
        return self.dice_weight * self.dice.of_scores(scores) + self.focal_weight * self.focal.of_scores(scores)
