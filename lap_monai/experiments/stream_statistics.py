"""What the runs of a stream say together: matrices of scores, measures of forgetting, means over seeds, comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lap_monai.experiments.statistics import compare_rows
from lap_monai.metrics import incremental_summary, score_matrix, step_summary
from lap_monai.task_stream import TaskStep

Rows = Sequence[Mapping[str, Any]]

#: Kind of score → where a row has it, as class → value or None. Pooled over the set, and averaged over images as the
#: publications on DSAD do.
SCORES: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, float | None]]] = {
    "iou": lambda row: row["iou"],
    "dice": lambda row: row["dice"],
    "iou_per_image": lambda row: row["per_image"]["iou"],
    "dice_per_image": lambda row: row["per_image"]["dice"],
}

#: The method that is trained on all steps at once, the bound of the others.
JOINT = "joint"

#: Measures of a run's summary that are one number, and where they stand in it.
_NUMBERS: Mapping[str, tuple[str, ...]] = {
    **{name: ("final", name) for name in ("all", "base", "new", "harmonic_mean", "background")},
    **{f"{name}_with_background": ("final", f"{name}_with_background") for name in ("all", "base")},
    **{name: (name, "mean") for name in ("forgetting_from_best", "forgetting_from_first", "plasticity")},
    "backward_transfer": ("backward_transfer",),
}


def arrivals(steps: Sequence[TaskStep]) -> list[int | None]:
    """Return the step that brings each class of the label space, 0 for the background, None for one never learnt."""
    came = {name: number for number, step in enumerate(steps) for name in step.new}
    return [0, *(came.get(name) for name in steps[0].classes[1:])]


def learnt_classes(steps: Sequence[TaskStep]) -> list[str]:
    """Return the classes that a stream teaches, the background first, in the order of their ids."""
    return [name for name, came in zip(steps[0].classes, arrivals(steps), strict=True) if came is not None]


def step_means(row: Mapping[str, Any], steps: Sequence[TaskStep]) -> dict[str, dict[str, float | None]]:
    """Return, for each kind of score of a row, the means over base, new and all classes after its step."""
    number = row["step"]
    found = {}
    for kind, scores in SCORES.items():
        by_step = [scores(row) if t == number else {} for t in range(len(steps))]
        found[kind] = step_summary(score_matrix(by_step, learnt_classes(steps)), _came(steps))[number]
    return found


def summarise_runs(rows: Rows, steps: Sequence[TaskStep]) -> list[dict[str, Any]]:
    """Return matrix and measures of each method with each seed that is through the stream.

    Args:
        rows: of `results.json`, one a step.
        steps: of the stream.

    Returns:
        For each run `{"method", "seed", "matrix": {kind: T lists of C values}, kind: incremental_summary}`; columns are
        `learnt_classes`. `JOINT`, trained once on everything, has scores after the last step only.
    """
    joint = {row["seed"]: row for row in rows if row["method"] == JOINT}
    return [_summarise_run(method, seed, own, steps, joint.get(seed)) for method, seed, own in _complete(rows, steps)]


def summarise_methods(rows: Rows, runs: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for each method and kind of score, mean and spread over seeds of each measure and each final class score.

    Args:
        rows: of `results.json`, one a step.
        runs: of `summarise_runs`.
        methods: in the order wanted.

    Returns:
        For each method `{"method", "n_seeds", "cost", kind: {"measures": {name: {"mean", "sd", "n"}}, "classes": {…},
        "forgetting": {class: {…}}, "matrix": mean over seeds}}`; `sd` divides by n - 1 and is None for one seed. Only
        runs that are through the stream count. `cost` is the mean over them of what the last step found on disk, and of
        the seconds of all steps; None without such a run.
    """
    summary = []
    for method in methods:
        own = [run for run in runs if run["method"] == method]
        entry: dict[str, Any] = {"method": method, "n_seeds": len(own), "cost": _cost(rows, own)}
        for kind in SCORES:
            entry[kind] = _over_seeds([run[kind] for run in own], [run["matrix"][kind] for run in own])
        summary.append(entry)
    return summary


def compare_methods(
    rows: Rows, methods: Sequence[str], steps: Sequence[TaskStep], reference: str
) -> list[dict[str, Any]]:
    """Compare every two methods after the last step, paired by patient; see `compare_rows`.

    A seed is to a stream what a draw of the masks is to a table: the repetition that a verdict has to hold over.
    """
    last = len(steps) - 1
    cells = [{**row, "budget": row["step"], "subset": row["seed"]} for row in rows]
    found = compare_rows(cells, methods, [last], learnt_classes(steps), reference)
    return [{"step" if key == "budget" else key: value for key, value in entry.items()} for entry in found]


def _came(steps: Sequence[TaskStep]) -> list[int]:
    return [came for came in arrivals(steps) if came is not None]


def _complete(rows: Rows, steps: Sequence[TaskStep]) -> Iterator[tuple[str, int, Rows]]:
    for method, seed in dict.fromkeys((row["method"], row["seed"]) for row in rows):
        own = sorted((row for row in rows if (row["method"], row["seed"]) == (method, seed)), key=_step)
        wanted = [len(steps) - 1] if method == JOINT else list(range(len(steps)))
        if [row["step"] for row in own] == wanted:
            yield method, seed, own


def _summarise_run(
    method: str, seed: int, own: Rows, steps: Sequence[TaskStep], joint: Mapping[str, Any] | None
) -> dict[str, Any]:
    by_step = {row["step"]: row for row in own}
    classes, came = learnt_classes(steps), _came(steps)
    run: dict[str, Any] = {"method": method, "seed": seed, "matrix": {}}
    for kind, scores in SCORES.items():
        matrix = score_matrix([scores(by_step[t]) if t in by_step else {} for t in range(len(steps))], classes)
        bound = None if joint is None or method == JOINT else score_matrix([scores(joint)], classes)[0]
        run["matrix"][kind] = [[None if np.isnan(value) else float(value) for value in line] for line in matrix]
        run[kind] = incremental_summary(matrix, came, classes, bound)
    return run


def _over_seeds(summaries: Sequence[Mapping[str, Any]], matrices: Sequence[Any]) -> dict[str, Any]:
    if not summaries:
        return {"measures": {}, "classes": {}, "forgetting": {}, "matrix": []}
    classes = list(summaries[0]["forgetting_from_best"]["classes"])
    return {
        "measures": {name: spread_of([_at(entry, path) for entry in summaries]) for name, path in _NUMBERS.items()},
        "classes": {name: spread_of([matrix[-1][c] for matrix in matrices]) for c, name in enumerate(classes)},
        "forgetting": {
            name: spread_of([entry["forgetting_from_best"]["classes"][name] for entry in summaries]) for name in classes
        },
        "matrix": [
            [spread_of([matrix[t][c] for matrix in matrices])["mean"] for c in range(len(classes))]
            for t in range(len(matrices[0]))
        ],
    }


def spread_of(values: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, standard deviation (n - 1; None for one) and number of the values that are not None."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "n": len(known),
    }


def _cost(rows: Rows, runs: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    totals = []
    for run in runs:
        own = sorted((row for row in rows if all(row[key] == run[key] for key in ("method", "seed"))), key=_step)
        totals.append({**own[-1]["kept"], "seconds": sum(row["seconds"] for row in own)})
    return {name: float(np.mean([total[name] for total in totals])) for name in totals[0]} if totals else None


def _at(entry: Any, path: Sequence[str]) -> float | None:
    for name in path:
        if entry is None:
            return None
        entry = entry[name]
    return entry


def _step(row: Mapping[str, Any]) -> int:
    return int(row["step"])
