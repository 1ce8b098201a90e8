from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lap_monai.experiments.cell_process import CellProcess, Outcome, environment
from lap_monai.experiments.cells import CELL_SETTINGS, TABLE_SETTINGS, Cell, build_cells
from lap_monai.experiments.step import Step
from lap_monai.experiments.step_state import read_state, write_state
from lap_monai.experiments.study import Study
from lap_monai.files import read_json, write_json

GOOD = "pass"


class Scripted(CellProcess):
    """Runs a line of Python in place of each step."""

    scripts: Sequence[str] = ()

    def command(self, step: Step) -> list[str]:
        script = self.scripts[self.cell.steps.index(step)]
        return [sys.executable, "-c", f"import os, signal, sys; {script}"]


@pytest.fixture
def cell(make_table: Any, study: Study, tmp_path: Path) -> Cell:
    return build_cells(make_table(), study, tmp_path / "run")[0]


def scripted(cell: Cell, *scripts: str, busy: set[Path] | None = None) -> Scripted:
    process = Scripted(cell, cell.folder, os.environ, busy=busy)
    process.scripts = scripts
    return process


def finish(process: CellProcess) -> Outcome:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (outcome := process.poll()) is not None:
            return outcome
        time.sleep(0.02)
    process.stop()
    pytest.fail("the cell did not end")


def test_steps_run_one_after_the_other_and_leave_logs_and_states(cell: Cell) -> None:
    outcome = finish(scripted(cell, "print('one')", "print('two', file=sys.stderr)"))
    assert (outcome.status, outcome.reason) == ("done", "")
    logs = [(cell.folder / f"log_{name}.txt").read_text(encoding="utf-8") for name in ("train", "evaluate")]
    assert logs == ["one\n", "two\n"]
    assert [read_state(step)["status"] for step in cell.steps] == ["done", "done"]
    assert read_json(cell.folder / CELL_SETTINGS)["budget"] == 0.05
    assert read_json(cell.folder / TABLE_SETTINGS) == {"epochs": 3, "label_only_per_batch": 2}


def test_a_step_that_is_done_is_not_run_again(cell: Cell) -> None:
    write_state(cell.steps[0], "done", seconds=5)
    assert finish(scripted(cell, "sys.exit('ran again')", GOOD)).status == "done"


def test_the_big_checkpoint_goes_when_the_cell_is_done(cell: Cell) -> None:
    models = cell.folder / "models"
    models.mkdir(parents=True)
    for name in ("checkpoint.pt", "model.pt"):
        (models / name).touch()
    finish(scripted(cell, GOOD, GOOD))
    assert [path.name for path in models.iterdir()] == ["model.pt"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('error: no masks'); sys.exit(1)", "no masks"),
        ("print('warning: x'); print('odd'); sys.exit(3)", "exit status 3: odd"),
        ("sys.exit(2)", "exit status 2: nothing was printed"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL (by the system, if memory ran out)"),
    ],
)
def test_a_failure_has_its_reason_and_ends_the_cell(cell: Cell, script: str, reason: str) -> None:
    outcome = finish(scripted(cell, script, "print('must not run')"))
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert read_state(cell.steps[0])["reason"] == reason
    assert not (cell.folder / "log_evaluate.txt").exists()


def test_a_second_try_forgets_the_first_ones_errors(cell: Cell) -> None:
    finish(scripted(cell, "print('error: no masks'); sys.exit(1)", GOOD))
    outcome = finish(scripted(cell, "print('better'); sys.exit(1)", GOOD))
    assert outcome.reason == "exit status 1: better"
    assert finish(scripted(cell, GOOD, GOOD)).status == "done"
    assert "no masks" in (cell.folder / "log_train.txt").read_text(encoding="utf-8")


def test_warnings_about_the_data_mark_the_cell_and_those_of_libraries_do_not(cell: Cell) -> None:
    lines = ["warning: the budget (0.01) holds no pixel of Liver", "warning: lr_scheduler is old"]
    outcome = finish(scripted(cell, f"print({lines[0]!r}); print({lines[0]!r}); print({lines[1]!r})", GOOD))
    assert outcome.status == "warned"
    assert outcome.reason == "the budget (0.01) holds no pixel of Liver"


@pytest.mark.parametrize(
    ("weight", "shares", "warned"), [(0.1, [1.0, 1.0], True), (0.1, [1.0, 0.9], False), (0, [1.0], False)]
)
def test_contrast_without_any_positive_marks_the_cell(
    cell: Cell, weight: float, shares: list[float], warned: bool
) -> None:
    write_json(cell.folder / "history.json", [{"without_positive": share} for share in shares])
    write_json(cell.folder / "run.json", {"settings": {"dcl_weight": weight}})
    outcome = finish(scripted(cell, GOOD, GOOD))
    assert (outcome.status == "warned") == warned
    assert ("no image ever met a positive" in outcome.reason) == warned


def test_a_run_that_another_cell_makes_is_waited_for(cell: Cell) -> None:
    busy = {cell.folder}
    process = scripted(cell, GOOD, GOOD, busy=busy)
    assert process.poll() is None
    assert not cell.steps[0].state_file.exists()
    busy.clear()
    assert finish(process).status == "done"
    assert busy == set()


def test_a_stopped_cell_is_resumable(cell: Cell) -> None:
    process = scripted(cell, "import time; print('on', flush=True); time.sleep(60)", GOOD)
    process.poll()
    started = time.monotonic()
    process.stop()
    assert time.monotonic() - started < 20
    assert read_state(cell.steps[0])["status"] == "running"
    assert finish(scripted(cell, GOOD, GOOD)).status == "done"


def test_the_command_names_the_configs_in_their_order(cell: Cell, tmp_path: Path) -> None:
    configs = cell.steps[0].configs[0].parent
    extras = {"train": [str(configs / "extra.json")], "evaluate": [str(configs / "more.json")]}
    train, evaluate = (CellProcess(cell, tmp_path, {}, extras=extras).command(step) for step in cell.steps)
    assert train[1:4] == ["-m", "lap_monai", "run"]
    names = [Path(word).name for word in train[4 : train.index("--out")]]
    assert names == ["train.json", TABLE_SETTINGS, "supervised.json", "extra.json", CELL_SETTINGS]
    names = [Path(word).name for word in evaluate[4 : evaluate.index("--out")]]
    assert names == ["train.json", TABLE_SETTINGS, "supervised.json", CELL_SETTINGS, "evaluate.json", "more.json"]
    assert train[-2:] == ["--data", str(tmp_path)]
    of_another_bundle = {"train": [str(tmp_path / "extra.json")]}
    assert CellProcess(cell, tmp_path, {}, extras=of_another_bundle).command(cell.steps[0]) == [
        word for word in train if not word.endswith("extra.json")
    ]


def test_several_processes_train_and_one_evaluates(cell: Cell, tmp_path: Path) -> None:
    train, evaluate = (CellProcess(cell, tmp_path, {}, 2).command(step) for step in cell.steps)
    assert train[2:7] == ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "lap_monai"]
    assert "torch.distributed.run" not in evaluate


@pytest.mark.parametrize(("jobs", "processes", "threads"), [(1, 1, "8"), (2, 1, "4"), (2, 2, "2"), (99, 1, "1")])
def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch, jobs: int, processes: int, threads: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert environment(jobs, 0, processes)["OMP_NUM_THREADS"] == threads


def test_devices_are_dealt_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert [environment(2, slot, 2)["CUDA_VISIBLE_DEVICES"] for slot in (0, 1)] == ["4,5", "6,7"]
    assert [environment(3, slot)["CUDA_VISIBLE_DEVICES"] for slot in (0, 2)] == ["4", "6"]
    assert environment(5, 4)["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"
