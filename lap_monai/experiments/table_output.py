"""The files of a table: `results.json`, `results.csv`, `results.md`, `report.html`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lap_monai.experiments.cells import Cell
from lap_monai.experiments.collect import collect
from lap_monai.experiments.panels import draw_panels
from lap_monai.experiments.study import Study
from lap_monai.experiments.table import Table
from lap_monai.files import write_json, write_text
from lap_monai.handlers.training_history import rows_to_csv
from lap_monai.reports import Panel, render_markdown, write_table_report

logger = logging.getLogger(__name__)


def write_table(run_dir: Path, table: Table, study: Study, cells: Sequence[Cell], data: Path) -> list[Path]:
    """Write what the finished cells say together, and return the files.

    Args:
        run_dir: the table's run folder.
        table: the table.
        study: its data, split and label space.
        cells: all of its cells, run or not.
        data: the data set's folder, from which the report's frames come.

    Raises:
        UserError: if a cell's results are of another config, label space or split.
    """
    results = collect(table, study, cells, run_dir)
    rows = [flat_row(row) for row in (*results["rows"], *results["not_done"])]
    return [
        write_json(run_dir / "results.json", results),
        write_text(run_dir / "results.csv", rows_to_csv(rows)),
        write_text(run_dir / "results.md", render_markdown(results)),
        write_table_report(
            run_dir / "report.html", results, study.label_space, _panels_or_none(table, study, cells, data)
        ),
    ]


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell's row with one column a score: plain values, the mean over patients, and the classes."""
    flat = {key: value for key, value in row.items() if value is None or isinstance(value, (str, int, float))}
    if "per_video" in row:
        flat["per_video_miou"] = row["per_video"]["miou"]
    for score in ("iou", "dice"):
        flat.update({f"{score}/{name}": value for name, value in row.get(score, {}).items()})
    return flat


def _panels_or_none(table: Table, study: Study, cells: Sequence[Cell], data: Path) -> list[Panel]:
    """The report's frames; none if they cannot be made, since the numbers do not depend on them."""
    try:
        return draw_panels(table, study, cells, data)
    except Exception as error:  # whatever the networks and the data may raise
        logger.warning("The report shows no frames: %s", error)
        return []
