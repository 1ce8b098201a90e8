"""Measures of learning class after class, from the matrix R of scores by step and class.

`R[t, c]` is the score, an IoU or a Dice, of class c after step t: `(T, C)`, class 0 being the background. `arrival[c]`
is the step that brought class c, 0 for the background. Entries before a class's arrival are never looked at. NaN, for a
class that the evaluated set lacks, is skipped by every mean and stays NaN in every value per class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lap_monai.metrics.overlap import Floats, miou

#: What a mean is taken over: the classes of step 0, those that came later, or both.
GROUPS = ("base", "new", "all")


def group_means(matrix: ArrayLike, arrival: ArrayLike, background: bool = False) -> dict[str, Floats]:
    """Return the mean score `(T,)` of the base, the new and all classes after each step.

    Args:
        matrix: R `(T, C)`.
        arrival: step of each class `(C,)`.
        background: whether it counts, as a base class.

    Returns:
        One entry for each of `GROUPS`; NaN where no class of the group has come yet.
    """
    scores, came = _checked(matrix, arrival)
    counted = np.arange(len(came)) >= (0 if background else 1)
    members = {"base": counted & (came == 0), "new": counted & (came > 0), "all": counted}
    return {name: np.array([miou(row) for row in scores[:, chosen]]) for name, chosen in members.items()}


def harmonic_mean(base: ArrayLike, new: ArrayLike) -> Floats:
    """Return 2 · base · new / (base + new), elementwise: high only if both are, NaN if one is missing."""
    first, second = np.asarray(base, dtype=np.float64), np.asarray(new, dtype=np.float64)
    total = first + second
    return np.where(total == 0, 0.0, 2 * first * second / np.where(total == 0, 1.0, total))


def forgetting_from_best(matrix: ArrayLike, arrival: ArrayLike) -> Floats:
    """Return, for each class, its best score after any earlier step minus its score after the last, `(C,)`.

    Chaudhry et al. 2018 (Riemannian Walk), equation of f: the best is looked for in the steps before the last, so a
    class that still improves has a negative value. NaN for classes that came with the last step.
    """
    scores, came = _checked(matrix, arrival)
    earlier = came < len(scores) - 1
    best = np.full(len(came), np.nan)
    best[earlier] = [np.fmax.reduce(scores[came[c] : -1, c]) for c in np.flatnonzero(earlier)]
    return best - scores[-1]


def forgetting_from_first(matrix: ArrayLike, arrival: ArrayLike) -> Floats:
    """Return, for each class, its score right after the step that brought it minus its score after the last, `(C,)`.

    NaN for classes that came with the last step.
    """
    scores, came = _checked(matrix, arrival)
    lost = _when_new(scores, came) - scores[-1]
    return np.where(came < len(scores) - 1, lost, np.nan)


def backward_transfer(matrix: ArrayLike, arrival: ArrayLike) -> float:
    """Return what later steps did to the classes of earlier ones: below 0 for forgetting.

    Lopez-Paz and Ranzato 2017, equation 3: the mean over the steps before the last of (score of the step's classes
    after the last step - score right after it), where a step's score is the mean over its classes without the
    background. So a step of one class weighs as much as one of six, unlike in the mean of `forgetting_from_first`. NaN
    for a single step.
    """
    scores, came = _checked(matrix, arrival)
    classes = np.arange(len(came)) > 0
    changes = [miou((scores[-1] - scores[t])[classes & (came == t)]) for t in range(len(scores) - 1)]
    return miou(np.array(changes)) if changes else float("nan")


def plasticity(matrix: ArrayLike, arrival: ArrayLike, joint: ArrayLike) -> Floats:
    """Return how much better than joint training each new class was learnt when it came, `(C,)`.

    The score right after the step that brought the class minus that of a network trained on all steps at once. Its
    negative is what Chaudhry et al. 2018 call intransigence. NaN for the background and the classes of step 0.

    Args:
        matrix: R `(T, C)`.
        arrival: step of each class `(C,)`.
        joint: scores of the joint training `(C,)`.
    """
    scores, came = _checked(matrix, arrival)
    return np.where(came > 0, _when_new(scores, came) - np.asarray(joint, dtype=np.float64), np.nan)


def _when_new(scores: Floats, came: NDArray[np.int64]) -> Floats:
    return scores[came, np.arange(len(came))]


def _checked(matrix: ArrayLike, arrival: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """The matrix, NaN before each class's arrival, and the arrivals."""
    scores, came = np.array(matrix, dtype=np.float64), np.asarray(arrival, dtype=np.int64)
    if scores.ndim != 2 or scores.shape[1:] != came.shape or not len(came) or not len(scores):
        raise ValueError(f"expected scores (T, C) and arrivals (C,), got {scores.shape} and {came.shape}.")
    if came[0] != 0 or came.min() < 0 or came.max() >= len(scores):
        raise ValueError(f"expected arrivals from 0 to {len(scores) - 1}, the background's 0, got {came.tolist()}.")
    scores[np.arange(len(scores))[:, None] < came] = np.nan
    return scores, came
