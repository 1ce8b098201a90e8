"""What the segmentation losses share: one softmax over the classes, and the pixels that count."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lap_monai.losses.precision import full_precision


class PixelScores(NamedTuple):
    """Predictions and labels of M images with Q pixels each, C classes."""

    log_p: Tensor  #: log-probabilities `(M, C, Q)`, float32 or float64
    log_p_true: Tensor  #: log-probability of the labelled class `(M, Q)`; 0 where the label is ignored
    label: Tensor  #: class ids `(M, Q)`, int64; 0 where the label is ignored
    valid: Tensor  #: bool `(M, Q)`, False where the label is ignored

    def sum_by_class(self, values: Tensor) -> Tensor:
        """Return `(M, C)`: the sums of `values` `(M, Q)` over the valid pixels labelled with each class.

        The same as a product with one-hot labels, without C times the memory.
        """
        zeros = values.new_zeros(self.log_p.shape[:2])
        return zeros.scatter_add(1, self.label, values * self.valid)


def pixel_scores(logits: Tensor, label: Tensor, ignore_index: int, name: str) -> PixelScores:
    """Return the softmax of `logits` beside the labels, flattened over space, in float32 or float64.

    Args:
        logits: scores before the softmax, `(M, C, H, W)` (any number of spatial axes).
        label: class ids `(M, 1, H, W)`, integers; `ignore_index` where the class is unknown.
        ignore_index: label of pixels that count nowhere.
        name: the loss that calls, for messages.

    Raises:
        ValueError: if the shapes do not fit together, or (on a CPU) a label is no class of the logits.
    """
    ids, valid = check_labels(logits, label, ignore_index, name)
    log_p = full_precision(logits).flatten(2).log_softmax(dim=1)
    log_p_true = log_p.gather(1, ids[:, None]).squeeze(1).where(valid, 0.0)
    return PixelScores(log_p, log_p_true, ids, valid)


def check_labels(logits: Tensor, label: Tensor, ignore_index: int, name: str) -> tuple[Tensor, Tensor]:
    """Return labels that fit the logits, flattened over space, with 0 for ignored ones, and where they are not ignored.

    Args:
        logits: scores, `(M, C, H, W)` (any number of spatial axes).
        label: class ids `(M, 1, H, W)`, integers; `ignore_index` where the class is unknown.
        ignore_index: label of pixels that count nowhere.
        name: the loss that calls, for messages.

    Returns:
        int64 and bool, `(M, Q)` both.

    Raises:
        ValueError: if the shapes do not fit together, or (on a CPU) a label is no class of the logits.
    """
    _check_shapes(logits, label, name)
    ids = label.flatten(1).long()
    valid = ids != ignore_index
    ids = ids.where(valid, 0)
    _check_ids(ids, logits.shape[1], ignore_index, name)
    return ids, valid


def mean_over_images(values: Tensor) -> Tensor:
    """Return the mean of `values` `(M,)`; for no image at all zero, connected to the graph."""
    return values.sum() / max(len(values), 1)


def _check_shapes(logits: Tensor, label: Tensor, name: str) -> None:
    if logits.ndim < 3:
        raise ValueError(f"{name}: expected logits of shape (M, C, H, W), got {tuple(logits.shape)}.")
    expected = (logits.shape[0], 1, *logits.shape[2:])
    if label.shape != expected:
        raise ValueError(
            f"{name}: expected labels of shape (M, 1, H, W) = {tuple(expected)} for logits of shape "
            f"{tuple(logits.shape)}, got {tuple(label.shape)}."
        )


def _check_ids(ids: Tensor, num_classes: int, ignore_index: int, name: str) -> None:
    if (
        ids.device.type != "cpu" or ids.numel() == 0
    ):  # elsewhere the look would stall the device; its own assertion acts there
        return
    low, high = (int(bound) for bound in torch.aminmax(ids))
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise ValueError(
            f"{name}: label {wrong} is none of the {num_classes} classes of the logits and not the ignored "
            f"{ignore_index}; network and labels need the same label space."
        )
