from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lap_monai.checks import UserError
from lap_monai.experiments.cells import CELL_SETTINGS, Cell, build_cells
from lap_monai.experiments.children import process_identity
from lap_monai.experiments.step_state import (
    cell_done,
    cell_status,
    refuse_foreign,
    refuse_running,
    write_state,
)
from lap_monai.experiments.study import Study
from lap_monai.files import write_json

ROW = {"label_space": "cholecseg8k_zhang8", "split": "own/test", "miou": 0.5}


@pytest.fixture
def cell(make_table: Any, study: Study, tmp_path: Path) -> Cell:
    return build_cells(make_table(), study, tmp_path / "run")[0]


def finish(cell: Cell, **changes: Any) -> None:
    """Leave what a finished cell leaves."""
    for step in cell.steps:
        write_json(step.folder / CELL_SETTINGS, step.settings[CELL_SETTINGS])
        write_json(step.folder / f"config_{step.configs[-1].stem}.json", step.merged())
        write_state(step, "done", seconds=1)
    write_json(cell.folder / "results.json", {"rows": [{**ROW, **changes}]})


def test_a_cells_life(cell: Cell) -> None:
    assert cell_status(cell) == ("missing", "")
    write_state(cell.steps[0], "running", process=process_identity())
    assert cell_status(cell) == ("interrupted", "")
    write_state(cell.steps[0], "failed", reason="no masks")
    assert cell_status(cell) == ("failed", "no masks")
    write_state(cell.steps[0], "done", warnings=["a class without pixels"])
    assert cell_status(cell) == ("interrupted", "")
    write_state(cell.steps[1], "done")
    assert not cell_done(cell), "no results yet"
    write_json(cell.folder / "results.json", {"rows": [ROW]})
    assert cell_done(cell)
    assert cell_status(cell) == ("warned", "a class without pixels")


def test_damaged_results_are_none(cell: Cell) -> None:
    finish(cell)
    (cell.folder / "results.json").write_text('{"rows": [', encoding="utf-8")
    assert not cell_done(cell)


def test_a_shared_run_does_not_begin_the_other_cells(make_table: Any, study: Study, tmp_path: Path) -> None:
    cells = [cell for cell in build_cells(make_table(), study, tmp_path) if cell.row.name == "frozen"]
    write_state(cells[0].steps[0], "done")
    assert {cell_status(cell) for cell in cells} == {("missing", "")}


def test_results_of_the_same_config_are_taken(cell: Cell, study: Study) -> None:
    finish(cell)
    refuse_foreign([cell], study)


def test_results_of_another_config_are_refused_and_the_difference_named(
    cell: Cell, make_table: Any, study: Study, tmp_path: Path
) -> None:
    finish(cell)
    changed = build_cells(make_table(settings={"epochs": 9, "label_only_per_batch": 2}), study, tmp_path / "run")[0]
    with pytest.raises(UserError, match=r"supervised/0.05_0_0 was run with another config.*epochs 3 → 9"):
        refuse_foreign([changed], study)


def test_an_interrupted_cell_of_another_config_is_refused_too(
    cell: Cell, make_table: Any, study: Study, tmp_path: Path
) -> None:
    """Its checkpoint would be trained on."""
    write_state(cell.steps[0], "running", process={**process_identity(), "pid": 2**22 + 1})
    changed = build_cells(make_table(unit="video"), study, tmp_path / "run")[0]
    with pytest.raises(UserError, match="another config"):
        refuse_foreign([changed], study)


@pytest.mark.parametrize(("key", "value"), [("label_space", "cholecseg8k_endovit8"), ("split", "zhang_1/test")])
def test_results_of_another_label_space_or_split_are_refused(cell: Cell, study: Study, key: str, value: str) -> None:
    finish(cell, **{key: value})
    with pytest.raises(UserError, match=f"holds results of {key} '{value}'"):
        refuse_foreign([cell], study)


def test_results_that_no_table_wrote_are_refused(cell: Cell, study: Study) -> None:
    write_json(cell.folder / "results.json", {"rows": [ROW]})
    with pytest.raises(UserError, match="results that no table wrote"):
        refuse_foreign([cell], study)


def test_a_cell_that_still_runs_is_refused_until_its_process_ends(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lap_monai.experiments.step_state._PATIENCE", 0.0)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_state(cell.steps[0], "running", process=process_identity(process.pid))
    with pytest.raises(UserError, match=f"still runs as process {process.pid}"):
        refuse_running([cell])
    process.kill()
    process.wait()
    refuse_running([cell])
