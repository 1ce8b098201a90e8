"""IoU and Dice from confusion matrices, under a named policy for absent classes.

Three averages go by three names, since they differ by tens of points on surgical frames: `iou` pools all pixels of the
set into one matrix; `iou_per_video` pools within a video (a patient), then averages over videos; `iou_per_image`
averages over frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[Any]  # whole numbers: int64, or float64 where a matrix product made them


class AbsentPolicy(StrEnum):
    """When a class has no score (NaN) in a matrix; NaN entries are skipped by every mean here."""

    #: Scored where the truth contains it. False positives of a class that the truth lacks cost nothing in its own
    #: column, but still cost the class they cover. For sets and videos: whether a class gets a figure does not depend
    #: on the method.
    TRUTH = "truth"
    #: Scored where the truth or the prediction contains it: a class only predicted scores 0. For single frames.
    UNION = "union"


def class_iou(matrices: Counts, absent: AbsentPolicy | str = AbsentPolicy.TRUTH) -> Floats:
    """Return TP / (TP + FP + FN) of each matrix: `(…, C, C)`, rows the truth → `(…, C)`, NaN where absent."""
    hit, truth, predicted = _margins(matrices)
    return _ratio(hit, truth + predicted - hit, truth, absent)


def class_dice(matrices: Counts, absent: AbsentPolicy | str = AbsentPolicy.TRUTH) -> Floats:
    """Return 2 TP / (2 TP + FP + FN) of each matrix: `(…, C, C)`, rows the truth → `(…, C)`, NaN where absent."""
    hit, truth, predicted = _margins(matrices)
    return _ratio(2 * hit, truth + predicted, truth, absent)


def iou(matrices: Counts, absent: AbsentPolicy | str = AbsentPolicy.TRUTH) -> Floats:
    """Return the pooled IoU per class, `(C,)`: all frames `(N, C, C)` summed into one matrix."""
    return class_iou(np.asarray(matrices).sum(0), absent)


def dice(matrices: Counts, absent: AbsentPolicy | str = AbsentPolicy.TRUTH) -> Floats:
    """Return the pooled Dice per class, `(C,)`: all frames `(N, C, C)` summed into one matrix."""
    return class_dice(np.asarray(matrices).sum(0), absent)


def iou_per_image(matrices: Counts, absent: AbsentPolicy | str = AbsentPolicy.UNION) -> Floats:
    """Return each class's mean IoU, `(C,)`, over the frames `(N, C, C)` in which the policy scores it."""
    return skip_nan_mean(class_iou(matrices, absent))


def iou_per_video(matrices: Counts, videos: Sequence[str], absent: AbsentPolicy | str = AbsentPolicy.TRUTH) -> Floats:
    """Return each class's mean, `(C,)`, over videos of the IoU pooled within the video."""
    return skip_nan_mean(class_iou(pool_by_video(matrices, videos)[1], absent))


def miou(values: Floats) -> float:
    """Return the mean over the classes that have a value, or NaN if none has."""
    return float(skip_nan_mean(np.asarray(values, dtype=np.float64)))


def pool_by_video(matrices: Counts, videos: Sequence[str]) -> tuple[list[str], Counts]:
    """Return the sorted video names and the matrices summed within each video, `(V, C, C)`.

    Raises:
        ValueError: if there is not one name per matrix.
    """
    matrices = np.asarray(matrices)
    if len(videos) != len(matrices):
        raise ValueError(f"expected one video name per matrix, got {len(videos)} names for {len(matrices)} matrices.")
    names = sorted(set(videos))
    place = {name: i for i, name in enumerate(names)}
    pooled = np.zeros((len(names), *matrices.shape[1:]), dtype=np.int64)
    np.add.at(pooled, [place[name] for name in videos], matrices)
    return names, pooled


def skip_nan_mean(values: Floats) -> Floats:
    """Return the mean over the first axis without its NaN entries; NaN where there is no other entry."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns of all-NaN columns, which are what we want kept
        return np.nanmean(values, axis=0)


def _margins(matrices: Counts) -> tuple[Counts, Counts, Counts]:
    matrices = np.asarray(matrices)
    return np.diagonal(matrices, axis1=-2, axis2=-1), matrices.sum(-1), matrices.sum(-2)


def _ratio(part: Counts, whole: Counts, truth: Counts, absent: AbsentPolicy | str) -> Floats:
    scored = truth > 0 if AbsentPolicy(absent) is AbsentPolicy.TRUTH else whole > 0
    return np.where(scored, part / np.maximum(whole, 1), np.nan)
