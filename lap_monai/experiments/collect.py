"""Putting the results of a table's cells together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lap_monai.experiments.cells import Cell
from lap_monai.experiments.statistics import compare_rows, summarise_rows
from lap_monai.experiments.step_state import cell_done, cell_row, cell_seconds, cell_status, refuse_foreign
from lap_monai.experiments.study import Study
from lap_monai.experiments.table import Table
from lap_monai.files import read_json
from lap_monai.provenance import command_line, git_revision, versions

#: What a table keeps of a cell's row; the rest stays in the cell's own results.json.
_KEPT = (
    *("split", "label_space", "miou", "mdice", "iou", "dice", "n_frames", "n_videos", "n_present", "absent"),
    *("per_video", "nsd", "size"),
)


def collect(table: Table, study: Study, cells: Sequence[Cell], run_dir: Path) -> dict[str, Any]:
    """Return everything that a table's `results.json` holds.

    Args:
        table: the table.
        study: its data, split and label space.
        cells: all of its cells, run or not.
        run_dir: the table's run folder.

    Raises:
        UserError: if a cell's results are of another config, label space or split.
    """
    refuse_foreign([cell for cell in cells if cell_done(cell)], study)
    rows = [_row(cell, run_dir) for cell in cells if cell_done(cell)]
    methods, classes = [row.name for row in table.rows], study.label_space.classes
    return {
        "table": table.name,
        "description": table.description,
        "label_space": study.label_space.name,
        "evaluated": {"part": study.part, "splits": sorted(split.name for split in study.splits.values())},
        "unit": table.unit,
        "reference": table.reference,
        "labels": {row.name: row.label for row in table.rows},
        "budgets": list(table.budgets),
        "classes": list(classes),
        "repetitions": len(cells) // (len(table.rows) * len(table.budgets)),
        "rows": rows,
        "not_done": [_not_done(cell) for cell in cells if not cell_done(cell)],
        "summary": summarise_rows(rows, methods, table.budgets, classes),
        "comparisons": compare_rows(rows, methods, table.budgets, classes, table.reference),
        "published": {"source": table.published_source, "rows": _published(table)},
        "config": dict(table.content),
        "data": study.data,
        "versions": versions(),
        "git": git_revision(),
        "command": command_line(),
    }


def _row(cell: Cell, run_dir: Path) -> dict[str, Any]:
    row: Mapping[str, Any] = cell_row(cell) or {}
    status, reason = cell_status(cell)
    return {
        **_identity(cell),
        "status": status,
        "warnings": reason,
        "seconds": cell_seconds(cell),
        **_masks(cell),
        "folder": cell.folder.relative_to(run_dir.resolve()).as_posix(),
        **{key: row[key] for key in _KEPT if key in row},
    }


def _not_done(cell: Cell) -> dict[str, Any]:
    status, reason = cell_status(cell)
    return {**_identity(cell), "status": status, "reason": reason}


def _identity(cell: Cell) -> dict[str, Any]:
    at = cell.at
    fold = None if at.split is None else Path(at.split).stem
    return {
        "method": cell.row.name,
        "budget": at.budget,
        "subset": at.subset,
        "seed": at.seed,
        "fold": fold,
    }


def _masks(cell: Cell) -> dict[str, Any]:
    """How many masks, of how many patients, the training saw."""
    try:
        ids = read_json(cell.folder / "budget.json")["ids"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return {"masked_frames": len(ids), "masked_patients": len({name.rpartition("_")[0] for name in ids})}


def _published(table: Table) -> list[dict[str, Any]]:
    return [
        {"method": name, "budget": budget, "iou": {label: list(value) for label, value in classes.items()}}
        for name, budgets in table.published.items()
        for budget, classes in budgets.items()
    ]
