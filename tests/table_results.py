"""A hand-made set of a table's results, for the tests of what is computed and drawn from one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lap_monai.experiments.statistics import compare_rows, summarise_rows

CLASSES = ("Background", "Liver", "Grasper")


def row(method: str, budget: float, subset: int, seed: int, patients: Mapping[str, Sequence[float | None]]) -> dict:
    """A cell's row: each patient's IoU of the three classes; the pooled IoU is taken to be the mean over patients."""
    pooled = [mean(values[place] for values in patients.values()) for place in range(len(CLASSES))]
    videos = {
        name: {"miou": mean(values), "iou": dict(zip(CLASSES, values, strict=True)), "n_frames": 4}
        for name, values in patients.items()
    }
    return {
        "method": method,
        "budget": budget,
        "subset": subset,
        "seed": seed,
        "fold": None,
        "status": "done",
        "warnings": "",
        "seconds": 60.0,
        "masked_frames": 12,
        "miou": mean(pooled),
        "iou": dict(zip(CLASSES, pooled, strict=True)),
        "per_video": {"miou": mean(video["miou"] for video in videos.values()), "videos": videos},
    }


def mean(values: Any) -> float | None:
    """The mean of what is not None, None of nothing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def results(rows: Sequence[Mapping[str, Any]], methods: Mapping[str, str], **changes: Any) -> dict[str, Any]:
    """What `results.json` holds for such rows, at 5 % and 10 %; the first method is the reference."""
    names = list(methods)
    return {
        "table": "made_up",
        "description": "Made by hand.",
        "label_space": "three",
        "evaluated": {"part": "test", "splits": ["own"]},
        "unit": "frame",
        "reference": names[0],
        "labels": dict(methods),
        "budgets": [0.05, 0.1],
        "classes": list(CLASSES),
        "repetitions": 2,
        "rows": list(rows),
        "not_done": [],
        "summary": summarise_rows(rows, names, [0.05, 0.1], CLASSES),
        "comparisons": compare_rows(rows, names, [0.05, 0.1], CLASSES, names[0]),
        "published": {"source": "", "rows": []},
        "config": {"name": "made_up"},
        "data": "abc",
        "versions": {"python": "3"},
        "git": None,
        "command": "python -m lap_monai table",
        **changes,
    }
