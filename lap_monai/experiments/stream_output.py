"""The files of a stream: `results.json`, `results.csv`, `results.md`, `report.html`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lap_monai.data import Stream
from lap_monai.experiments.stream_cells import StreamCell
from lap_monai.experiments.stream_collect import collect_stream
from lap_monai.experiments.stream_files import StreamFiles
from lap_monai.experiments.stream_panels import draw_replay_samples, draw_stream_panels
from lap_monai.experiments.stream_study import StreamStudy
from lap_monai.files import read_json, rounded, write_json, write_text
from lap_monai.handlers.training_history import rows_to_csv
from lap_monai.reports import render_stream_markdown, write_stream_report

logger = logging.getLogger(__name__)

_Picture = TypeVar("_Picture")


def write_stream(
    run_dir: Path, stream: Stream, study: StreamStudy, files: StreamFiles, cells: Sequence[StreamCell]
) -> list[Path]:
    """Write what the finished runs say together, and return the files.

    Raises:
        UserError: as `collect_stream`.
    """
    results = collect_stream(stream, study, files, cells)
    panels = _or_none(lambda: draw_stream_panels(files, cells))
    samples = _or_none(lambda: draw_replay_samples(files, cells))
    return [
        write_json(run_dir / "results.json", rounded(results)),
        write_text(run_dir / "results.csv", rows_to_csv([flat_row(row) for row in results["rows"]])),
        write_text(run_dir / "results.md", render_stream_markdown(results)),
        write_stream_report(run_dir / "report.html", results, stream.label_space, panels, samples),
    ]


def write_study(out: Path, run_dirs: Sequence[Path]) -> list[Path]:
    """Write the rows of several streams together, and return the files: `results.json`, `results.csv`, `results.md`.

    Args:
        out: folder of the study.
        run_dirs: of its streams.
    """
    results = [read_json(run_dir / "results.json") for run_dir in run_dirs]
    rows = [{"stream": result["stream"], **row} for result in results for row in result["rows"]]
    shared = {key: results[0][key] for key in ("config", "versions", "git", "command")}
    texts = [(run_dir / "results.md").read_text(encoding="utf-8") for run_dir in run_dirs]
    return [
        write_json(out / "results.json", {"rows": rows, **shared}),
        write_text(out / "results.csv", rows_to_csv([flat_row(row) for row in rows])),
        write_text(out / "results.md", "\n".join(texts)),
    ]


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's row with one column a score: plain values, means over groups, costs, and the classes."""
    flat = {key: value for key, value in row.items() if value is None or isinstance(value, (str, int, float))}
    for kind, means in row["means"].items():
        flat.update({f"{kind}_{name}": value for name, value in means.items()})
    flat.update({f"kept_{name}": value for name, value in row["kept"].items()})
    for score in ("iou", "dice"):
        flat.update({f"{score}/{name}": value for name, value in row[score].items()})
    return flat


def _or_none(draw: Callable[[], list[_Picture]]) -> list[_Picture]:
    """The report's pictures; none if they cannot be made, since the numbers do not depend on them."""
    try:
        return draw()
    except Exception as error:  # whatever the networks and the data may raise
        logger.warning("The report lacks pictures: %s", error)
        return []
