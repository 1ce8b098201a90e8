"""Running the cells of a table: order, several at a time, one failure hurting one cell only."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress

from lap_monai.experiments.cell_process import Outcome, Running
from lap_monai.experiments.cells import Cell

#: Starts a cell in a slot, from 0 to jobs - 1.
Start = Callable[[Cell, int], Running]


def run_cells(
    cells: Sequence[Cell],
    start: Start,
    jobs: int = 1,
    say: Callable[[str], None] = print,
    interval: float = 0.5,
) -> dict[str, Outcome]:
    """Run cells until none is left. If this is interrupted, the running ones are stopped, resumable.

    Args:
        cells: those to run, in this order.
        start: starts one.
        jobs: how many run at the same time.
        say: takes a line after each cell.
        interval: seconds between two looks at the running ones.

    Returns:
        Cell name → how it ended.
    """
    waiting, running = list(cells), dict[int, tuple[Cell, Running]]()
    outcomes: dict[str, Outcome] = {}
    clock = _Clock(jobs)
    try:
        while waiting or running:
            for slot in range(jobs):
                if slot not in running and waiting:
                    cell = waiting.pop(0)
                    running[slot] = (cell, start(cell, slot))
            for slot, (cell, process) in list(running.items()):
                outcome = process.poll()
                if outcome is not None:
                    del running[slot]
                    outcomes[cell.name] = outcome
                    clock.note(cell, outcome)
                    left = [*waiting, *(other for other, _ in running.values())]
                    say(f"[{len(outcomes)}/{len(cells)}] {describe(cell, outcome)}{clock.left(left)}")
            if running:
                time.sleep(interval)
    finally:
        for _, process in running.values():
            with suppress(ProcessLookupError):
                process.stop()
    return outcomes


def describe(cell: Cell, outcome: Outcome) -> str:
    """Return one line on how a cell ended."""
    took = f" in {duration(outcome.seconds)}" if outcome.status != "failed" else ""
    return f"{cell.name}: {outcome.status}{took}{f' ({outcome.reason})' if outcome.reason else ''}"


def duration(seconds: float) -> str:
    """Return a length of time in words: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


class _Clock:
    """Foretells how long the rest takes, from what the cells of the same row and budget took."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.taken: dict[tuple[str, float | None], list[float]] = defaultdict(list)

    def note(self, cell: Cell, outcome: Outcome) -> None:
        if outcome.status != "failed":
            for key in ((cell.row.name, cell.at.budget), (cell.row.name, None), ("", None)):
                self.taken[key].append(outcome.seconds)

    def left(self, cells: Sequence[Cell]) -> str:
        if not cells or not self.taken:
            return ""
        seconds = sum(self._expected(cell) for cell in cells) / min(self.jobs, len(cells))
        return f"; about {duration(seconds)} left"

    def _expected(self, cell: Cell) -> float:
        keys = ((cell.row.name, cell.at.budget), (cell.row.name, None), ("", None))
        values = next(self.taken[key] for key in keys if key in self.taken)
        return sum(values) / len(values)
