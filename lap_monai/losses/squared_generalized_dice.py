"""Generalised Dice loss with squared terms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lap_monai.checks import require_choice
from lap_monai.keys import IGNORE_INDEX
from lap_monai.losses.pixel_scores import PixelScores, mean_over_images, pixel_scores

#: Class weight as a function of the share of the valid pixels that carry the class, by MONAI's names.
CLASS_WEIGHTS = {
    "square": lambda share: share.square().reciprocal(),
    "simple": torch.reciprocal,
    "uniform": torch.ones_like,
}


class SquaredGeneralizedDiceLoss(nn.Module):
    """Generalised Dice loss with squared terms (Zhang et al. 2024, eq. 6; class weights of Sudre et al. 2017).

    `1 - 2 sum_c w_c sum_q p_cq g_cq / (sum_c w_c sum_q p_cq^2 + sum_c w_c sum_q g_cq^2 + eps)` per image, then the mean
    over the images, so that gradient accumulation and distributed training give the gradient of the whole batch. Own
    code because MONAI's `GeneralizedDiceLoss` (1.6) has neither squared terms nor ignored pixels.

    Ignored pixels count nowhere. An image without any valid pixel has loss 0 (and counts in the mean over the images).
    A class that an image lacks would have an infinite weight; as in MONAI it gets the greatest weight of the classes
    that are there, so predicting it is penalised.

    Deviation: the sums over pixels are means over the valid pixels. The ratio is the same, but eps no longer outweighs
    the sums of large structures, whose weights `1 / pixels^2` are tiny (a perfect 256x256 image of one class would cost
    0.25).

    Args:
        weight: `"square"`, 1 / share^2 of the class's share of the pixels (Sudre et al.); `"simple"`, 1 / share;
            `"uniform"`.
        batch: one Dice over the pixels of all images of the batch, instead of one per image. Steadier with small
            structures, but the loss of a batch is then no mean over its images.
        eps: added to the denominator.
        ignore_index: label of pixels that do not count.
    """

    def __init__(
        self, weight: str = "square", batch: bool = False, eps: float = 1e-5, ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__()
        self.weight = require_choice(weight, CLASS_WEIGHTS, "weight of SquaredGeneralizedDiceLoss")
        self.batch = batch
        if not eps > 0:
            raise ValueError(f"SquaredGeneralizedDiceLoss: expected eps > 0, got {eps}.")
        self.eps = eps
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss, a scalar from 0 to 1; zero and connected to the graph if no pixel is valid.

        Args:
            logits: scores before the softmax, `(M, C, H, W)`.
            label: class ids `(M, 1, H, W)`.

        Raises:
            ValueError: if the shapes do not fit together, or (on a CPU) a label is no class of the logits.
        """
        return self.of_scores(pixel_scores(logits, label, self.ignore_index, type(self).__name__))

    def of_scores(self, scores: PixelScores) -> Tensor:
        """Return the loss for pixel scores that are computed already."""
        present = scores.sum_by_class(torch.ones_like(scores.log_p_true))  # sum_q g = sum_q g^2
        overlap = scores.sum_by_class(scores.log_p_true.exp())  # sum_q p g
        predicted = (scores.log_p.exp().square() * scores.valid[:, None]).sum(dim=2)  # sum_q p^2
        if self.batch:
            present, overlap, predicted = (x.sum(dim=0, keepdim=True) for x in (present, overlap, predicted))
        return mean_over_images(self._dice_loss(present, overlap, predicted))

    def _dice_loss(self, present: Tensor, overlap: Tensor, predicted: Tensor) -> Tensor:
        pixels = present.sum(dim=1, keepdim=True)
        present, overlap, predicted = (x / pixels.clamp_min(1) for x in (present, overlap, predicted))
        weights = CLASS_WEIGHTS[self.weight](present).where(present > 0, 0.0)
        weights = torch.where(present > 0, weights, weights.amax(dim=1, keepdim=True))
        numerator = 2 * (weights * overlap).sum(dim=1)
        denominator = (weights * (predicted + present)).sum(dim=1) + self.eps
        return torch.where(pixels[:, 0] > 0, 1 - numerator / denominator, 0.0)
