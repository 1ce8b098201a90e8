"""A hand-made set of a stream's results, for the tests of what is computed and drawn from one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from table_results import mean

from lap_monai.experiments.stream_statistics import (
    compare_methods,
    step_means,
    summarise_methods,
    summarise_runs,
)
from lap_monai.label_space import LabelSpace
from lap_monai.task_stream import task_steps

CLASSES = ("background", "liver", "ureter", "colon", "spleen")
COLOURS = ((127, 127, 127), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
SPACE = LabelSpace("four", "own", CLASSES, COLOURS, {i: i for i in range(5)}, (), "made up")

#: Colon arrives last, the liver first, spleen never.
STEPS = task_steps(CLASSES, (("liver",), ("ureter",), ("colon",)))


def row(method: str, step: int, seed: int, patients: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """A step's row: each patient's IoU of background, liver, ureter and colon, None before a class has come; pooled
    and per-image scores are taken to be the mean over patients."""
    names = CLASSES[:4]
    pooled = dict(zip(names, (mean(values[c] for values in patients.values()) for c in range(4)), strict=True))
    videos = {
        name: {"miou": mean(values), "iou": dict(zip(names, values, strict=True)), "n_frames": 4}
        for name, values in patients.items()
    }
    made: dict[str, Any] = {
        "method": method,
        "step": step,
        "seed": seed,
        "fold": None,
        "status": "done",
        "warnings": "",
        "seconds": 60.0,
        "miou": mean(pooled.values()),
        "iou": pooled,
        "dice": {name: value if value is None else 2 * value / (1 + value) for name, value in pooled.items()},
        "per_video": {"miou": mean(video["miou"] for video in videos.values()), "videos": videos},
        "kept": {"real_images": 0, "synthetic_images": 100 * step * (method == "ddcl"), "bytes": 1000 * step},
    }
    made["per_image"] = {"iou": pooled, "dice": made["dice"]}
    return {**made, "means": step_means(made, STEPS)}


def run(method: str, seed: int, lift: float = 0.0, loss: float = 0.1, count: int = 6) -> list[dict[str, Any]]:
    """Rows of all steps: what a class has at its arrival, less `loss` for every step since; joint has the last only."""
    start = {"liver": 0.6, "ureter": 0.4, "colon": 0.5}
    rows = []
    for step in [2] if method == "joint" else [0, 1, 2]:
        scores: list[float | None] = [0.9 + lift / 10]
        for came, value in enumerate(start.values()):
            scores.append(value + lift - loss * (step - came) if came <= step else None)
        patients = {f"p{i}": [None if v is None else v + 0.01 * i for v in scores] for i in range(count)}
        rows.append(row(method, step, seed, patients))
    return rows


def results(rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str], **changes: Any) -> dict[str, Any]:
    """What `results.json` holds for such rows; the first method is the reference."""
    names = list(labels)
    runs = summarise_runs(rows, STEPS)
    return {
        "stream": "made_up",
        "description": "Made by hand.",
        "protocol": "disjoint",
        "patients": "disjoint",
        "label_space": "four",
        "evaluated": {"part": "test", "split": "own"},
        "reference": names[0],
        "labels": dict(labels),
        "classes": list(CLASSES[:4]),
        "steps": [
            {"step": number, "old": list(step.old), "new": list(step.new), "frames": 10, "patients": 2}
            for number, step in enumerate(STEPS)
        ],
        "seeds": sorted({entry["seed"] for entry in rows}),
        "rows": list(rows),
        "not_done": [],
        "runs": runs,
        "summary": summarise_methods(rows, runs, names),
        "comparisons": compare_methods(rows, names, STEPS, names[0]),
        "findings": [],
        "config": {"name": "made_up"},
        "data": "abc",
        "versions": {"python": "3"},
        "git": None,
        "command": "python -m lap_monai stream",
        **changes,
    }
