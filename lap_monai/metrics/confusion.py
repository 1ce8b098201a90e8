"""The sufficient statistic of every overlap score: one confusion matrix per frame."""

from __future__ import annotations

import torch
from torch import Tensor

from lap_monai.keys import IGNORE_INDEX


def confusion_matrix(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Count, frame by frame, which class was predicted where which class is true.

    Args:
        prediction: predicted class ids of any integer type, `(N, H, W)` or `(N, 1, H, W)`, each below `num_classes`.
        label: true class ids of the same number of frames and pixels; pixels of `ignore_index` are not counted.
        num_classes: number C of classes.
        ignore_index: label of the pixels to leave out.

    Returns:
        int64 `(N, C, C)` on the device of `label`: rows are the truth, columns the prediction. A frame without a
        labelled pixel gives zeros.

    Raises:
        ValueError: if shapes differ, or an id that is counted lies outside `[0, num_classes)`.

    Examples:
        >>> confusion_matrix(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 255]]), 2)
        tensor([[[1, 1],
                 [0, 0]]])
    """
    frames = len(label)
    if len(prediction) != frames or prediction.numel() != label.numel():
        raise ValueError(
            f"confusion_matrix: expected ids of equal shape, got {tuple(prediction.shape)} and {tuple(label.shape)}."
        )
    truth = label.reshape(frames, -1).long()
    predicted = prediction.reshape(frames, -1).long().to(truth.device)
    counted = truth != ignore_index
    for name, ids in (("label", truth[counted]), ("prediction", predicted[counted])):
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_classes:
            raise ValueError(
                f"confusion_matrix: expected {name} ids from 0 to {num_classes - 1}, "
                f"got {int(ids.min())} to {int(ids.max())}."
            )
    frame = torch.arange(frames, device=truth.device)[:, None].expand_as(truth)
    cell = (frame * num_classes + truth) * num_classes + predicted
    counts = torch.bincount(cell[counted], minlength=frames * num_classes**2)
    return counts.reshape(frames, num_classes, num_classes)
