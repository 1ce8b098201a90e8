from __future__ import annotations

from typing import Any

import pytest

from lap_monai.experiments.cell_process import Outcome
from lap_monai.experiments.cells import Cell, build_cells
from lap_monai.experiments.durations import duration
from lap_monai.experiments.runner import run_cells
from lap_monai.experiments.study import Study


class Fake:
    """A cell that takes a number of looks and then has an outcome, and a record of what was asked of all of them."""

    def __init__(self, log: list[str], cell: Cell, looks: int, outcome: Outcome | BaseException) -> None:
        self.log, self.cell, self.looks, self.outcome = log, cell, looks, outcome
        log.append(f"start {cell.name}")

    def poll(self) -> Outcome | None:
        self.looks -= 1
        if self.looks > 0:
            return None
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        self.log.append(f"end {self.cell.name}")
        return self.outcome

    def stop(self) -> None:
        self.log.append(f"stop {self.cell.name}")


@pytest.fixture
def cells(make_table: Any, study: Study, tmp_path: Any) -> list[Cell]:
    return build_cells(make_table(seeds=[0], subsets=[0]), study, tmp_path)


def run(
    cells: list[Cell], jobs: int = 1, outcomes: dict[int, Any] | None = None, looks: int = 1
) -> tuple[Any, list, list]:
    log: list[str] = []
    lines: list[str] = []
    number = {cell.name: place for place, cell in enumerate(cells)}

    def start(cell: Cell, slot: int) -> Fake:
        assert 0 <= slot < jobs
        outcome = (outcomes or {}).get(number[cell.name], Outcome("done", seconds=60))
        return Fake(log, cell, looks, outcome)

    return run_cells(cells, start, jobs, say=lines.append, interval=0), log, lines


def test_one_after_the_other_in_order(cells: list[Cell]) -> None:
    found, log, lines = run(cells)
    assert log == [f"{what} {cell.name}" for cell in cells for what in ("start", "end")]
    assert {outcome.status for outcome in found.values()} == {"done"}
    assert lines[0] == f"[1/6] {cells[0].name}: done in 60 s; about 5 min left"
    assert lines[-1] == f"[6/6] {cells[-1].name}: done in 60 s"


@pytest.mark.parametrize("jobs", [2, 3, 9])
def test_never_more_than_jobs_at_a_time_and_all_of_them_once(cells: list[Cell], jobs: int) -> None:
    _, log, _ = run(cells, jobs, looks=3)
    running = peak = 0
    for entry in log:
        running += 1 if entry.startswith("start") else -1
        peak = max(peak, running)
    assert peak == min(jobs, len(cells))
    assert sorted(log) == sorted(f"{what} {cell.name}" for cell in cells for what in ("start", "end"))


def test_a_failure_hurts_one_cell_only(cells: list[Cell]) -> None:
    found, log, lines = run(cells, outcomes={1: Outcome("failed", "no masks")})
    assert [outcome.status for outcome in found.values()] == ["done", "failed", "done", "done", "done", "done"]
    assert f"{cells[1].name}: failed (no masks)" in lines[1]
    assert f"end {cells[-1].name}" in log


def test_an_interruption_stops_what_runs_and_starts_nothing_more(cells: list[Cell]) -> None:
    log: list[str] = []

    def start(cell: Cell, slot: int) -> Fake:
        return Fake(log, cell, 2 if slot == 0 else 99, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, start, 2, say=print, interval=0)
    first, second = cells[0].name, cells[1].name
    assert log == [f"start {first}", f"start {second}", f"stop {first}", f"stop {second}"]


def test_nothing_to_do(cells: list[Cell]) -> None:
    assert run([])[0] == {}


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (7100, "118 min"), (7300, "2 h 02 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
