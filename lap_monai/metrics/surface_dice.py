"""Normalised surface Dice (NSD) per frame and class, with a tolerance in pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects
from torch import Tensor

from lap_monai.keys import IGNORE_INDEX

Mask = NDArray[np.bool_]


def surface_dice(
    prediction: Tensor, label: Tensor, num_classes: int, tolerance: float, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Return the share of the outlines, predicted and true, that lies within `tolerance` pixels of the other.

    A mask's outline is made of its pixels that have a neighbour, of four, outside it. The values are those of MONAI's
    `compute_surface_dice` (DeepMind's counts lengths instead of pixels), which on small frames spends its time on
    wrapping crops, most of an evaluation; hence SciPy alone. Ignored pixels belong to no class, in truth and prediction
    alike, so an outline made by the edge of an ignored region agrees with itself.

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
    truth = label.reshape(-1, height, width).cpu().numpy()
    predicted = prediction.reshape(-1, height, width).cpu().numpy()
    predicted = np.where(truth == ignore_index, ignore_index, predicted)
    scores = np.full((len(truth), num_classes), np.nan)
    for frame, (p, t) in enumerate(zip(predicted, truth, strict=True)):
        for c in np.union1d(p, t).tolist():
            if c != ignore_index:
                scores[frame, c] = _agreement(p == c, t == c, tolerance)
    return torch.from_numpy(scores)


def _agreement(first: Mask, second: Mask, tolerance: float) -> float:
    """NSD of two masks of which one at least is not empty."""
    if not (first.any() and second.any()):
        return 0.0
    box = find_objects((first | second).astype(np.uint8))[0]  # what lies outside is outside both
    outlines = [mask[box] & ~binary_erosion(mask[box]) for mask in (first, second)]
    near = sum(
        np.count_nonzero(distance_transform_edt(~other)[outline] <= tolerance)
        for outline, other in (outlines, outlines[::-1])
    )
    return near / sum(map(np.count_nonzero, outlines))
