"""What the cells of a table say together: means, spreads by their names, and comparisons between methods."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lap_monai.metrics import MIN_VIDEOS, holm, paired_difference, patient_interval

#: A verdict needs a p below this one.
ALPHA = 0.05

Results = Sequence[Mapping[str, Any]]
Score = Callable[[Mapping[str, Any]], float | None]


def summarise_rows(
    rows: Results, methods: Sequence[str], budgets: Sequence[float], classes: Sequence[str]
) -> list[dict]:
    """Return mean and spreads of each method at each budget.

    Args:
        rows: one of `results.json` per cell.
        methods: in the table's order.
        budgets: in the table's order.
        classes: of the label space.

    Returns:
        For each method and budget `{"method", "budget", "n_cells", "miou", "iou": {class: …}, "per_patient"}`. `miou`
        and each class hold what `spread` returns, of pooled scores; `per_patient` is the mean over patients of the
        patient's mean IoU, and its bootstrap interval over patients.
    """
    summary = []
    for method, budget in itertools.product(methods, budgets):
        own = rows_of(rows, method, budget)
        summary.append(
            {
                "method": method,
                "budget": budget,
                "n_cells": len(own),
                "miou": spread(own, lambda row: row["miou"]),
                "iou": {name: spread(own, _class_score(name)) for name in classes},
                "per_patient": _per_patient(own),
            }
        )
    return summary


def spread(rows: Results, score: Score) -> dict[str, Any]:
    """Return the mean of a score over cells and its standard deviations, each over one kind of repetition.

    `sd_over_subsets` is that of the subsets' means (the draw of the masks), `sd_over_folds` that of the splits' means,
    `sd_over_seeds` the one between seeds where everything else is equal (root of the mean variance). All divide by
    n - 1 and are None with fewer than two. Cells in which the class is absent are left out and counted in `n_null`.
    """
    scored = [(row, value) for row in rows if (value := score(row)) is not None]
    by_seed = [np.var(values, ddof=1) for values in _grouped(scored, "subset", "fold").values() if len(values) > 1]
    return {
        "mean": float(np.mean([value for _, value in scored])) if scored else None,
        "sd_over_subsets": _sd_of_means(_grouped(scored, "subset")),
        "sd_over_seeds": float(np.sqrt(np.mean(by_seed))) if by_seed else None,
        "sd_over_folds": _sd_of_means(_grouped(scored, "fold")),
        "n": len(scored),
        "n_null": len(rows) - len(scored),
    }


def compare_rows(
    rows: Results, methods: Sequence[str], budgets: Sequence[float], classes: Sequence[str], reference: str
) -> list[dict]:
    """Compare every two methods at every budget, on the repetitions that both have.

    Those with `reference` come first, as `than`. The mean IoU is the declared test; the classes' p are corrected among
    each other (Holm). The verdict is `"better"` or `"worse"` where p is below 0.05 and neither interval contains 0,
    else `"not decided"`. So it takes several patients and several draws of the masks: one training may be better than
    another on every patient by chance alone.
    """
    order = [reference, *(method for method in methods if method != reference)]
    pairs = [(other, one) for one, other in itertools.combinations(order, 2)]
    compared = [_compare(rows, *pair, budget, classes) for pair in pairs for budget in budgets]
    return [comparison for comparison in compared if comparison is not None]


def rows_of(rows: Results, method: str, budget: float) -> list[Mapping[str, Any]]:
    """Return the rows of a method at a budget."""
    return [row for row in rows if row["method"] == method and row["budget"] == budget]


def _compare(rows: Results, method: str, than: str, budget: float, classes: Sequence[str]) -> dict[str, Any] | None:
    own, other = (_by_repetition(rows_of(rows, name, budget)) for name in (method, than))
    shared = sorted(set(own) & set(other), key=str)
    if not shared:
        return None
    first, second = [own[key] for key in shared], [other[key] for key in shared]
    patients = sorted({name for row in (*first, *second) for name in row["per_video"]["videos"]})
    per_class = {name: _difference(first, second, patients, _patient_class(name)) for name in classes}
    adjusted = holm([found["p"] for found in per_class.values()])
    for found, p_holm in zip(per_class.values(), adjusted, strict=True):
        found["p_holm"] = p_holm
        found["verdict"] = _verdict(found, p_holm)
    overall = _difference(first, second, patients, lambda video: video["miou"])
    pooled = [a["miou"] - b["miou"] for a, b in zip(first, second, strict=True) if None not in (a["miou"], b["miou"])]
    return {
        "method": method,
        "than": than,
        "budget": budget,
        **overall,
        "verdict": _verdict(overall, overall["p"]),
        "pooled_difference": float(np.mean(pooled)) if pooled else None,
        "classes": per_class,
    }


def _difference(first: Results, second: Results, patients: Sequence[str], score: Score) -> dict[str, Any]:
    return paired_difference(
        _patient_scores(first, patients, score), _patient_scores(second, patients, score)
    ).to_json()


def _patient_scores(rows: Results, patients: Sequence[str], score: Score) -> NDArray[np.float64]:
    """Scores `(draws, patients)`: one draw is a subset of the masks in one split, averaged over its seeds."""
    draws: dict[tuple, list[list[float]]] = {}
    for row in rows:
        videos = row["per_video"]["videos"]
        values = [score(videos[name]) if name in videos else None for name in patients]
        own = [np.nan if value is None else float(value) for value in values]
        draws.setdefault((row["subset"], row["fold"]), []).append(own)
    # Absent in one seed is absent in all: it depends on the truth alone.
    return np.array([np.mean(seeds, axis=0) for seeds in draws.values()], dtype=np.float64)


def _verdict(found: Mapping[str, Any], p: float | None) -> str:
    intervals = [found["interval"], found["interval_with_draws"]]
    if p is None or p >= ALPHA or None in intervals:
        return "not decided"
    if all(low > 0 for low, _ in intervals):
        return "better"
    return "worse" if all(high < 0 for _, high in intervals) else "not decided"


def _per_patient(rows: Results) -> dict[str, Any]:
    """Mean over patients of the patient's mean IoU, each averaged over the cells first."""
    patients = sorted({name for row in rows for name in row["per_video"]["videos"]})
    means = []
    for name in patients:
        videos = [row["per_video"]["videos"][name]["miou"] for row in rows if name in row["per_video"]["videos"]]
        scored = [value for value in videos if value is not None]
        means += [float(np.mean(scored))] if scored else []
    interval = patient_interval(np.array(means))
    reason = None if interval else f"{len(means)} patients, an interval needs {MIN_VIDEOS}"
    return {
        "n_patients": len(means),
        "miou": float(np.mean(means)) if means else None,
        "interval": interval,
        "reason": reason,
    }


def _by_repetition(rows: Results) -> dict[tuple, Mapping[str, Any]]:
    return {(row["subset"], row["seed"], row["fold"]): row for row in rows}


def _grouped(scored: Sequence[tuple[Mapping[str, Any], float]], *keys: str) -> dict[tuple, list[float]]:
    groups: dict[tuple, list[float]] = {}
    for row, value in scored:
        groups.setdefault(tuple(row[key] for key in keys), []).append(value)
    return groups


def _sd_of_means(groups: Mapping[tuple, Sequence[float]]) -> float | None:
    means = [np.mean(values) for values in groups.values()]
    return float(np.std(means, ddof=1)) if len(means) > 1 else None


def _class_score(name: str) -> Score:
    return lambda row: row["iou"][name]


def _patient_class(name: str) -> Score:
    return lambda video: video["iou"][name]
