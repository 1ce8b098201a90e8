"""Putting the results of a stream's cells together."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lap_monai.checks import UserError
from lap_monai.data import Stream
from lap_monai.experiments.step_state import cell_seconds, refuse_foreign_steps, step_done, work_status
from lap_monai.experiments.stream_cells import StreamCell
from lap_monai.experiments.stream_files import StreamFiles
from lap_monai.experiments.stream_statistics import (
    compare_methods,
    learnt_classes,
    step_means,
    summarise_methods,
    summarise_runs,
)
from lap_monai.experiments.stream_step import TRAIN_SETTINGS, StreamStep
from lap_monai.experiments.stream_study import StreamStudy
from lap_monai.files import read_json
from lap_monai.keys import IMAGE, LABEL
from lap_monai.provenance import command_line, git_revision, versions
from lap_monai.replay import SyntheticSet

#: What is kept of a step's row as its evaluation wrote it; the rest stays in the run's own results.json.
_KEPT = ("miou", "mdice", "iou", "dice", "per_image", "per_video", "n_frames", "n_videos", "absent", "size")


def collect_stream(
    stream: Stream, study: StreamStudy, files: StreamFiles, cells: Sequence[StreamCell]
) -> dict[str, Any]:
    """Return everything that a stream's `results.json` holds.

    Args:
        stream: the stream.
        study: how its networks were trained.
        files: its frames.
        cells: all cells, run or not.

    Raises:
        UserError: if a run was made with another config or other frames, or its results are of another step.
    """
    for cell in cells:
        refuse_foreign_steps(cell)
    rows, missing = [], []
    for cell in cells:
        for number, evaluation in cell.evaluations.items():
            if step_done(evaluation):
                rows.append(_row(cell, number, evaluation, files))
            else:
                missing.append(_missing(cell, number, evaluation))
    methods = list(dict.fromkeys(cell.method.name for cell in cells))
    labels = {cell.method.name: cell.method.label for cell in cells}
    reference = study.reference if study.reference in methods else methods[0]
    runs = summarise_runs(rows, files.tasks)
    return {
        "stream": stream.name,
        "description": stream.description,
        "protocol": stream.protocol,
        "patients": stream.patients,
        "label_space": stream.label_space.name,
        "evaluated": {"part": stream.evaluate, "split": files.plan["split"]["name"]},
        "reference": reference,
        "labels": labels,
        "classes": learnt_classes(files.tasks),
        "steps": [
            {
                "step": step.number,
                "old": list(step.task.old),
                "new": list(step.task.new),
                "frames": len(step.train),
                "patients": len({row["video"] for row in step.train}),
            }
            for step in files.steps
        ],
        "seeds": sorted({cell.seed for cell in cells}),
        "rows": rows,
        "not_done": missing,
        "runs": runs,
        "summary": summarise_methods(rows, runs, methods),
        "comparisons": compare_methods(rows, methods, files.tasks, reference),
        "findings": [f"{found['where']}: {found['kind']}, {found['message']}" for found in files.plan["findings"]],
        "config": dict(study.content),
        "data": files.plan["data"],
        "versions": versions(),
        "git": git_revision(),
        "command": command_line(),
    }


def frame_scores(evaluation: StreamStep) -> dict[str, tuple[float, str]]:
    """Return, of every frame that a run scored, its mean IoU over classes and its patient; frames without a score are
    left out."""
    with (evaluation.folder / "frames.csv").open(encoding="utf-8", newline="") as file:
        found = {}
        for row in csv.DictReader(file):
            scores = [float(value) for name, value in row.items() if name.startswith("iou/") and value]
            known = [value for value in scores if value == value]
            if known:
                found[row["id"]] = (sum(known) / len(known), row["video"])
    return found


def _row(cell: StreamCell, number: int, evaluation: StreamStep, files: StreamFiles) -> dict[str, Any]:
    made = _results(evaluation)
    own = replace(cell, steps=tuple(step for step in cell.steps if step.number == number))
    status, warnings = work_status(own, True)
    row = {
        **_identity(cell, number),
        "status": status,
        "warnings": warnings,
        "seconds": cell_seconds(own),
        "folder": evaluation.folder.relative_to(files.run_dir).as_posix(),
        **{key: made[key] for key in _KEPT if key in made},
        "kept": kept_for(cell.training(number)),
    }
    for score in ("iou", "dice"):  # a class that has not come is null, as one that the set lacks
        row[score] = {name: made[score].get(name) for name in learnt_classes(files.tasks)}
    return {**row, "means": step_means(row, files.tasks)}


def _results(evaluation: StreamStep) -> Mapping[str, Any]:
    path = evaluation.folder / "results.json"
    try:
        made = read_json(path)["rows"][0]
        number = made["step"]
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(
            f"{str(path)!r} is missing or damaged; delete {str(evaluation.state_file)!r} to score the step anew."
        ) from None
    if number != evaluation.number:
        raise UserError(f"{str(path)!r} holds results of step {number}, not {evaluation.number}; delete the folder.")
    return made


def kept_for(training: StreamStep) -> dict[str, int]:
    """Return what a training found on disk that earlier steps had left, beside the network: images and bytes."""
    own = training.settings[TRAIN_SETTINGS]
    sets = [SyntheticSet.open(folder) for folder in own.get("synthetic_sets", ())]
    exemplars = read_json(own["previous_exemplars"]) if own.get("previous_exemplars") else []
    others = [Path(path) for path in (own.get("previous_memory"), *own.get("earlier_checkpoints", ())[:-1]) if path]
    stored = [Path(row[IMAGE]) for row in exemplars]
    for row in exemplars:
        label = row[LABEL]
        stored += [Path(path) for path in (label if isinstance(label, dict) else [label] if label else [])]
    for synthetic in sets:
        stored += [synthetic.path(image.index) for image in synthetic.kept]
    return {
        "real_images": len(exemplars),
        "synthetic_images": sum(len(synthetic.kept) for synthetic in sets),
        "bytes": sum(path.stat().st_size for path in (*stored, *others) if path.is_file()),
    }


def _missing(cell: StreamCell, number: int, evaluation: StreamStep) -> dict[str, Any]:
    needed = replace(cell, folder=evaluation.folder, steps=cell.steps[: cell.steps.index(evaluation) + 1])
    status, reason = work_status(needed, False)
    return {**_identity(cell, number), "status": status, "reason": reason}


def _identity(cell: StreamCell, number: int) -> dict[str, Any]:
    return {"method": cell.method.name, "step": number, "seed": cell.seed, "fold": None}
