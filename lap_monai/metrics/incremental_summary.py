"""Everything that is said about one run through a stream, from its matrices of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lap_monai.metrics.incremental import (
    GROUPS,
    backward_transfer,
    forgetting_from_best,
    forgetting_from_first,
    group_means,
    harmonic_mean,
    plasticity,
)
from lap_monai.metrics.overlap import Floats, miou
from lap_monai.metrics.summary import by_class, nullable

#: How a mean calls that the background is among its classes.
WITH_BACKGROUND = "_with_background"


def step_summary(matrix: ArrayLike, arrival: ArrayLike) -> list[dict[str, float | None]]:
    """Return, for each step, the means over groups of classes.

    Args:
        matrix: scores R `(T, C)`, see `lap_monai.metrics.incremental`.
        arrival: step of each class `(C,)`.

    Returns:
        T mappings: `base`, `new`, `all`, the same `_with_background`, `harmonic_mean` of base and new (without the
        background), and `background`, the background's own score.
    """
    without, with_it = (group_means(matrix, arrival, background) for background in (False, True))
    columns: dict[str, Floats] = {
        **{name: without[name] for name in GROUPS},
        **{f"{name}{WITH_BACKGROUND}": with_it[name] for name in ("base", "all")},
        "harmonic_mean": harmonic_mean(without["base"], without["new"]),
        "background": np.asarray(matrix, dtype=np.float64)[:, 0],
    }
    return [{name: nullable(values[t]) for name, values in columns.items()} for t in range(len(np.asarray(matrix)))]


def incremental_summary(
    matrix: ArrayLike, arrival: ArrayLike, classes: Sequence[str], joint: ArrayLike | None = None
) -> dict[str, Any]:
    """Return the measures of a whole run through a stream, JSON-able.

    Args:
        matrix: scores R `(T, C)` after every step.
        arrival: step of each class `(C,)`.
        classes: C names, the background first.
        joint: scores `(C,)` of a network trained on all steps at once; without them there is no plasticity.

    Returns:
        `final` (of `step_summary`, after the last step), `forgetting_from_best`, `forgetting_from_first` and
        `plasticity`, each `{"mean", "classes": {class: value}}` with a mean that leaves the background out, and
        `backward_transfer`.
    """
    learnt = None if joint is None else plasticity(matrix, arrival, joint)
    return {
        "final": step_summary(matrix, arrival)[-1],
        "forgetting_from_best": _measure(forgetting_from_best(matrix, arrival), classes),
        "forgetting_from_first": _measure(forgetting_from_first(matrix, arrival), classes),
        "backward_transfer": nullable(backward_transfer(matrix, arrival)),
        "plasticity": None if learnt is None else _measure(learnt, classes),
    }


def score_matrix(scores: Sequence[Mapping[str, float | None]], classes: Sequence[str]) -> Floats:
    """Return R `(T, C)` from a mapping of class to score after each step; NaN for null and for what is not there."""
    return np.array([[_number(row.get(name)) for name in classes] for row in scores]).reshape(-1, len(classes))


def _measure(values: Floats, classes: Sequence[str]) -> dict[str, Any]:
    return {"mean": nullable(miou(values[1:])), "classes": by_class(values, classes)}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
