"""Sigmoid losses under partial labels: what is not known of a class does not count for it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lap_monai.keys import IGNORE_INDEX
from lap_monai.losses.pixel_scores import check_labels, mean_over_images
from lap_monai.losses.precision import full_precision
from lap_monai.task_stream import Knowledge


class MaskedSigmoidLoss(nn.Module):
    """Binary cross-entropy plus Dice of one sigmoid a channel, each over the pixels where its class is known.

    A class is known at a pixel if the pixel carries a class (that one or another, for structures do not overlap), and
    at unlabelled pixels if the image's `Knowledge` says so. The background is a class like the others: positive at
    unlabelled pixels where all classes are known.

    The cross-entropy is the mean over an image's known (pixel, channel) pairs; the Dice loss,
    `1 - 2 sum p g / (sum p^2 + sum g^2)` over the known pixels of a channel, is the mean over the channels that have a
    pixel in the image. A class that has none has no overlap to improve, the cross-entropy alone keeps it away. Both are
    then means over the images; an image of which nothing is known has loss 0.

    Args:
        dice_weight: factor of the Dice term, at least 0.
        bce_weight: factor of the cross-entropy, at least 0.
        include_background: whether channel 0 has a head of its own to train.
        ignore_index: label of pixels that do not count.
    """

    head = "sigmoid"

    def __init__(
        self,
        dice_weight: float = 1.0,
        bce_weight: float = 1.0,
        include_background: bool = True,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        if min(dice_weight, bce_weight) < 0 or dice_weight + bce_weight == 0:
            raise ValueError(
                "MaskedSigmoidLoss: expected dice_weight and bce_weight >= 0, one of them > 0, "
                f"got {dice_weight} and {bce_weight}."
            )
        self.dice_weight = dice_weight
        self.bce_weight = bce_weight
        self.first = 0 if include_background else 1
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, label: Tensor, knowledge: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; zero and connected to the graph if nothing is known.

        Args:
            logits: scores before the sigmoid, `(M, C, H, W)`; M may be 0.
            label: channel numbers `(M, 1, H, W)`, integers; `ignore_index` where a pixel does not count.
            knowledge: what the labels say of each channel, `(M, C)`, see `Knowledge`; None where all are known.

        Raises:
            ValueError: if the shapes do not fit together, or (on a CPU) a label is no channel of the logits.
        """
        check_labels(logits, label, self.ignore_index, type(self).__name__)
        scores = full_precision(logits).flatten(2)[:, self.first :]
        truth, known = binary_targets(label, logits.shape[1], knowledge, self.ignore_index)
        truth, known = truth[:, self.first :], known[:, self.first :]
        return self.bce_weight * _cross_entropy(scores, truth, known) + self.dice_weight * _dice(scores, truth, known)


def binary_targets(
    label: Tensor, num_channels: int, knowledge: Tensor | None = None, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Return where each channel's class is, and where that is known.

    Args:
        label: channel numbers `(M, 1, H, W)`.
        num_channels: C.
        knowledge: `(M, C)`, see `Knowledge`; None where all are known.
        ignore_index: label of pixels that do not count.

    Returns:
        Two bool tensors `(M, C, H * W)`; where a class is not known to be there it is False in the first.
    """
    ids = label.flatten(2)
    truth = ids == torch.arange(num_channels, device=ids.device)[:, None]
    known = (ids != ignore_index).expand_as(truth)
    if knowledge is not None:
        said = (knowledge != Knowledge.UNKNOWN).to(ids.device)[:, :, None]
        known = known & ((ids != 0) | said)
    return truth & known, known


def _cross_entropy(scores: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    per_pixel = F.binary_cross_entropy_with_logits(scores, truth.to(scores.dtype), reduction="none")
    return mean_over_images((per_pixel * known).sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp_min(1))


def _dice(scores: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    p = scores.sigmoid()
    pixels = truth.sum(dim=2)
    overlap = (p * truth).sum(dim=2)
    predicted = (p.square() * known).sum(dim=2)
    present = pixels > 0
    loss = (1 - 2 * overlap / (predicted + pixels).clamp_min(1)) * present
    return mean_over_images(loss.sum(dim=1) / present.sum(dim=1).clamp_min(1))
