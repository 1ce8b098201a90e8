"""The cells of a table: which processes make one, in which folders, and what identifies their outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lap_monai.checkpoints import previous_checkpoint
from lap_monai.checks import UserError, did_you_mean
from lap_monai.experiments.step import EVALUATE, Step, mattering
from lap_monai.experiments.study import Study, content_hash, merged_config
from lap_monai.experiments.table import AXES, Coordinates, Row, Stage, Table

#: Files of a run folder: the table's settings, which overlays may replace, and the cell's own, which come last.
TABLE_SETTINGS, CELL_SETTINGS = "table_settings.json", "cell.json"


@dataclass(frozen=True)
class Cell:
    """One training and evaluation, or several trainings and an evaluation, of a row."""

    row: Row
    at: Coordinates
    folder: Path
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """`<row>/<budget>_<subset>_<seed>`, which `--only` matches."""
        return f"{self.row.name}/{self.at.name}"

    @property
    def fingerprint(self) -> str:
        """Equal for cells whose results would be equal."""
        return self.steps[-1].fingerprint

    @property
    def kinds(self) -> tuple[str, ...]:
        """What cells that take about as long have in common, closest first."""
        return (f"{self.row.name} {self.at.budget}", self.row.name, "")

    @property
    def spare(self) -> tuple[Path, ...]:
        """Files of no use once there are results: twice the network's size and more."""
        last = self.folder / "models" / "checkpoint.pt"
        return (last, previous_checkpoint(last))

    @property
    def group(self) -> str:
        """Equal for cells that share a run, which is best done by one machine."""
        shared = [step.folder for step in self.steps if self.folder not in (step.folder, *step.folder.parents)]
        return str(shared[0]) if shared else str(self.folder)


def build_cells(table: Table, study: Study, run_dir: Path) -> list[Cell]:
    """Return all cells in the order in which they run: every method at every budget before the first repetition."""
    builders = [_RowBuilder(table, study, run_dir, row) for row in table.rows]
    return [builder.cell(at) for at in table.coordinates() for builder in builders]


def choose(cells: Sequence[Cell], only: str | None = None, shard: tuple[int, int] = (1, 1)) -> list[Cell]:
    """Return the cells of one shard whose name matches a glob pattern.

    Args:
        cells: all cells of the table.
        only: pattern such as `dcl*/0.05_*`; None for all.
        shard: (i, n), i from 1: every n-th group of cells. Cells that share a pre-training stay together.

    Raises:
        UserError: if no cell of the table matches.
    """
    groups = list(dict.fromkeys(cell.group for cell in cells))
    number, count = shard
    mine = {group for place, group in enumerate(groups) if place % count == number - 1}
    matching = [cell for cell in cells if only is None or fnmatchcase(cell.name, only)]
    if not matching:
        raise UserError(f"--only {only!r} matches no cell.{did_you_mean(str(only), (cell.name for cell in cells))}")
    return [cell for cell in matching if cell.group in mine]


class _RowBuilder:
    """Merges a row's configs once, and makes its cells."""

    def __init__(self, table: Table, study: Study, run_dir: Path, row: Row) -> None:
        self.table, self.study, self.run_dir, self.row = table, study, run_dir, row
        self.hashes = {stage.name: self._hash(stage, False) for stage in row.stages}
        self.evaluation_hash = self._hash(row.stages[-1], True)

    def cell(self, at: Coordinates) -> Cell:
        folder = self.run_dir / "cells" / self.row.name / at.name
        steps: list[Step] = []
        for stage in self.row.stages:
            steps.append(self._training(stage, at, folder, steps))
        return Cell(self.row, at, folder, (*steps, self._evaluation(steps[-1])))

    def _training(self, stage: Stage, at: Coordinates, cell: Path, earlier: Sequence[Step]) -> Step:
        last = stage is self.row.stages[-1]
        place = at.only(stage.per)
        used = {file.partition("/")[0] for file in stage.uses.values()}
        print_of = content_hash(
            {
                "config": self.hashes[stage.name],
                "at": place,
                "unit": self.table.unit if "budget" in place or "subset" in place else None,
                "uses": [step.fingerprint for step in earlier if step.name in used],
                "study": self._study(at),
            }
        )
        folder = cell if last else cell / stage.name
        if stage.per != AXES:
            folder = self.run_dir / "stages" / f"{stage.name}_{print_of}"
        inputs = {key: self._file(file, earlier) for key, file in stage.uses.items()}
        coordinates = {key: value for key, value in place.items() if value is not None}
        settings = {
            **stage.settings,
            **inputs,
            **coordinates,
            "budget_unit": self.table.unit,
            "method": self.row.name if last else stage.name,
            "resume": "auto",
        }
        configs = (*self.table.configs, folder / TABLE_SETTINGS, *stage.overlays, folder / CELL_SETTINGS)
        written = {TABLE_SETTINGS: self.table.settings, CELL_SETTINGS: settings}
        return Step(stage.name, folder, configs, written, print_of)

    def _evaluation(self, training: Step) -> Step:
        configs = (*training.configs, *self.table.evaluate)
        print_of = content_hash({"config": self.evaluation_hash, "training": training.fingerprint})
        return Step(EVALUATE, training.folder, configs, training.settings, print_of)

    @staticmethod
    def _file(file: str, earlier: Sequence[Step]) -> str:
        stage, _, rest = file.partition("/")
        return str(next(step.folder for step in earlier if step.name == stage) / rest)

    def _hash(self, stage: Stage, evaluation: bool) -> str:
        return content_hash(mattering(merged_config(self.table, self.row, stage, evaluation)))

    def _study(self, at: Coordinates) -> dict[str, Any]:
        split = {**self.study.split(at.split).to_json(), "name": None, "origin": None}
        return {"label_space": self.study.label_space.name, "data": self.study.data, "split": split}
