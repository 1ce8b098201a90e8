"""Focal loss over the softmax."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lap_monai.keys import IGNORE_INDEX
from lap_monai.losses.pixel_scores import PixelScores, mean_over_images, pixel_scores


class FocalLoss(nn.Module):
    """Multi-class focal loss over the softmax (Zhang et al. 2024, eq. 7): `-(1 - p)^gamma log p` of the labelled class.

    The mean over the valid pixels of each image, then the mean over the images, so that gradient accumulation and
    distributed training give the gradient of the whole batch. An image without any valid pixel has loss 0 (and counts
    in the mean over the images). Own code because MONAI's `FocalLoss` (1.6) divides by C when nothing is ignored and
    not when something is, pools the pixels of all images, and builds one-hot labels.

    Deviation: eq. 7 divides the sum over an image's pixels by the batch size, which would outweigh the Dice term, at
    most 1, by four orders of magnitude; here it is the mean over the pixels.

    Args:
        gamma: how much easy pixels are discounted, at least 0; at 0 the loss is the cross-entropy.
        ignore_index: label of pixels that do not count.
        class_weight: factor of each class's pixels, C numbers of at least 0 (the alpha of Lin et al. 2017, eq. 5); None
            for 1. The mean still divides by the number of pixels.
    """

    class_weight: Tensor | None

    def __init__(
        self, gamma: float = 2.0, ignore_index: int = IGNORE_INDEX, class_weight: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"FocalLoss: expected gamma >= 0, got {gamma}.")
        if class_weight is not None and not min(class_weight) >= 0:
            raise ValueError(f"FocalLoss: expected every class_weight >= 0, got {list(class_weight)}.")
        self.gamma = gamma
        self.ignore_index = ignore_index
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weight, persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss, a scalar; zero and connected to the graph if no pixel is valid.

        Args:
            logits: scores before the softmax, `(M, C, H, W)`.
            label: class ids `(M, 1, H, W)`.

        Raises:
            ValueError: if the shapes do not fit together, or (on a CPU) a label is no class of the logits.
        """
        return self.of_scores(pixel_scores(logits, label, self.ignore_index, type(self).__name__))

    def of_scores(self, scores: PixelScores) -> Tensor:
        """Return the loss for pixel scores that are computed already."""
        log_p = scores.log_p_true  # 0 at ignored pixels, which hence add nothing
        # The bound keeps gamma < 1 finite where p = 1: the slope of x^gamma at 0 is infinite.
        miss = -torch.expm1(log_p).clamp_max(-torch.finfo(log_p.dtype).tiny)
        per_pixel = -(miss**self.gamma) * log_p
        if self.class_weight is not None:
            per_pixel = per_pixel * self._weight_of(scores)
        return mean_over_images(per_pixel.sum(dim=1) / scores.valid.sum(dim=1).clamp_min(1))

    def _weight_of(self, scores: PixelScores) -> Tensor:
        weight, num_classes = self.class_weight, scores.log_p.shape[1]
        if weight is None or len(weight) != num_classes:
            raise ValueError(f"FocalLoss: expected {num_classes} class weights, one a class, got {self.class_weight}.")
        return weight.to(scores.log_p)[scores.label]
