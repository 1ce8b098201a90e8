"""Running the cells of a table: order, several at a time, one failure hurting one cell only."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from lap_monai.experiments.cell_process import Outcome, Running
from lap_monai.experiments.durations import duration
from lap_monai.experiments.step import Work

#: Starts a cell in a slot, from 0 to jobs - 1.
Start = Callable[[Any, int], Running]


def run_cells(
    cells: Sequence[Work],
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
    waiting, running = list(cells), dict[int, tuple[Work, Running]]()
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


def describe(cell: Work, outcome: Outcome) -> str:
    """Return one line on how a cell ended."""
    took = f" in {duration(outcome.seconds)}" if outcome.status != "failed" else ""
    return f"{cell.name}: {outcome.status}{took}{f' ({outcome.reason})' if outcome.reason else ''}"


class _Clock:
    """Foretells how long the rest takes, from what works of the same kind took."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.taken: dict[str, list[float]] = defaultdict(list)

    def note(self, cell: Work, outcome: Outcome) -> None:
        if outcome.status != "failed":
            for kind in cell.kinds:
                self.taken[kind].append(outcome.seconds)

    def left(self, cells: Sequence[Work]) -> str:
        if not cells or not self.taken:
            return ""
        seconds = sum(self._expected(cell) for cell in cells) / min(self.jobs, len(cells))
        return f"; about {duration(seconds)} left"

    def _expected(self, cell: Work) -> float:
        values = next(self.taken[kind] for kind in cell.kinds if kind in self.taken)
        return sum(values) / len(values)
