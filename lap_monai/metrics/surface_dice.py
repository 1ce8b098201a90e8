"""Normalised surface Dice (NSD) per frame and class, with a tolerance in pixels."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from monai.metrics import compute_surface_dice
from torch import Tensor

from lap_monai.keys import IGNORE_INDEX


def surface_dice(
    prediction: Tensor, label: Tensor, num_classes: int, tolerance: float, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Return the share of the outlines, predicted and true, that lies within `tolerance` pixels of the other.

    MONAI's `compute_surface_dice` (outlines counted in pixels, DeepMind's counts lengths). Ignored pixels belong to no
    class, in truth and prediction alike, so an outline made by the edge of an ignored region agrees with itself.

    Args:
        prediction: predicted class ids, `(N, H, W)` or `(N, 1, H, W)`.
        label: true class ids, same shape; `ignore_index` is not counted.
        num_classes: number C of classes.
        tolerance: accepted distance in pixels of these images; state it, and their size, beside the figure.
        ignore_index: label of the pixels to leave out.

    Returns:
        float64 `(N, C)` on the CPU. NaN where neither truth nor prediction contains the class, 0 where only one does
        (`AbsentPolicy.UNION`).
    """
    height, width = label.shape[-2:]
    truth = label.reshape(-1, height, width).cpu().long()
    predicted = torch.where(truth == ignore_index, ignore_index, prediction.reshape(-1, height, width).cpu().long())
    scores = torch.full((len(truth), num_classes), np.nan, dtype=torch.float64)
    for frame, (p, t) in enumerate(zip(predicted, truth, strict=True)):
        present = [c for c in torch.unique(torch.stack([p, t])).tolist() if c != ignore_index]
        in_both = [c for c in present if (p == c).any() and (t == c).any()]
        scores[frame, present] = 0.0
        if in_both:
            ids = torch.tensor(in_both)[:, None, None]
            scores[frame, in_both] = _scores((p == ids)[None], (t == ids)[None], float(tolerance))
    return scores


def _scores(prediction: Tensor, label: Tensor, tolerance: float) -> Tensor:
    thresholds = [tolerance] * prediction.shape[1]
    with warnings.catch_warnings():
        # MONAI 1.6 warns, at every call and whoever calls, of an argument that it passes to itself.
        warnings.filterwarnings("ignore", ".*get_mask_edges:always_return_as_numpy", FutureWarning)
        return compute_surface_dice(prediction, label, thresholds, include_background=True)[0].double()
