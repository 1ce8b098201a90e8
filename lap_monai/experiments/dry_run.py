"""What a table would do: its cells, how many masks of how many patients each sees, and how long it would take."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

from lap_monai import keys
from lap_monai.experiments.cells import CELL_SETTINGS, Cell
from lap_monai.experiments.durations import duration
from lap_monai.experiments.step import EVALUATE, Step
from lap_monai.experiments.study import Study, user_errors_freed
from lap_monai.experiments.table import Table
from lap_monai.reports.table_markdown import share

#: Iterations that are run, the first of which is not timed: it allocates memory and chooses algorithms.
_TIMED = 3

#: Seconds that a process needs before its first step: Python, PyTorch, MONAI, opening the cache.
START_SECONDS = 10.0


class _Enough(Exception):
    """Ends an engine in the middle of an epoch, without what it does at the end of one."""


@dataclass(frozen=True)
class _Cost:
    """Seconds of one training step and of one validated batch, and how many of them a training takes."""

    step: float
    steps: int
    batch: float
    batches: int

    @property
    def seconds(self) -> float:
        return START_SECONDS + self.step * self.steps + self.batch * self.batches


def dry_run(table: Table, study: Study, cells: Sequence[Cell], data: Path, jobs: int = 1) -> Iterator[str]:
    """Yield the lines of a plan, after one timed training step of each row's real config.

    Nothing is left but the frame cache, which the table needs anyway.

    Args:
        table: the table.
        study: its data, split and label space.
        cells: those that would be run.
        data: the data set's folder.
        jobs: how many at a time.
    """
    yield f"{table.name}: {len(cells)} of {len(table.rows) * len(table.coordinates())} cells"
    costs: dict[tuple[str, ...], _Cost] = {}
    seconds: dict[str, float] = {}
    masks: dict[tuple[Any, ...], str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        probe = _Probe(study, data, Path(scratch))
        for cell in cells:
            place = (cell.at, cell.row.stages[-1].overlays)
            if place not in masks:
                masks[place] = probe.masks(cell.steps[-2])
            for step in cell.steps[:-1]:
                kind = (cell.row.name, step.name, str(cell.at.budget))
                if kind not in costs:
                    costs[kind] = probe.cost(step, feeds=step is not cell.steps[-2])
                seconds[str(step.state_file)] = costs[kind].seconds
            last = costs[(cell.row.name, cell.steps[-2].name, str(cell.at.budget))]
            batches = probe.evaluated_batches(cell.steps[-1])
            seconds[str(cell.steps[-1].state_file)] = START_SECONDS + last.batch * batches
            own = sum(seconds[str(step.state_file)] for step in cell.steps)
            yield f"{cell.name}: {masks[place]}; about {duration(own)}"
    for (row, stage, budget), cost in costs.items():
        yield (
            f"{row}, {stage}, {share(float(budget))}: {cost.steps} steps of {cost.step:.2f} s, "
            f"{cost.batches} validated batches of {cost.batch:.2f} s"
        )
    total = sum(seconds.values()) / max(1, min(jobs, len(cells)))
    at_once = f", {jobs} at a time (more if they share cores)" if jobs > 1 else ""
    yield f"estimated time on this machine: {duration(total)}{at_once}; stated: {table.expected_time}"


class _Probe:
    """Builds the real configs of steps in a scratch folder, and runs a few iterations of them."""

    def __init__(self, study: Study, data: Path, scratch: Path) -> None:
        self.study, self.data, self.scratch = study, data, scratch
        self._evaluated: dict[str | None, int] = {}
        self._places: dict[Path, Path] = {}

    def masks(self, step: Step) -> str:
        """Say how many masks, of how many patients, a training would see, and which classes it would not."""
        with warnings.catch_warnings(record=True) as caught, user_errors_freed():
            warnings.simplefilter("always")
            rows = self._parser(step).get_parsed_content("train#masked_rows")
        said = [str(warning.message) for warning in caught if "pixel" in str(warning.message)]
        patients = len({row[keys.VIDEO] for row in rows})
        return "; ".join([f"{len(rows)} masked frames of {patients} patients", *said])

    def cost(self, step: Step, feeds: bool) -> _Cost:
        """Time a training step and a validated batch.

        Args:
            step: a training.
            feeds: whether another stage reads its files; then one short epoch is run to its end.
        """
        with quietly():
            whole = self._parser(step)
            per_epoch = len(whole.get_parsed_content("train#dataloader"))
            epochs, interval = whole.get_parsed_content("epochs"), whole.get_parsed_content("val_interval")
            short = {"epochs": 1, "steps_per_epoch": _TIMED} if feeds else {}
            parser = self._parser(step, short)
            trainer = parser.get_parsed_content("train#trainer")
            validator = parser.get_parsed_content("validate#evaluator")
            step_seconds = _time(trainer, None if feeds else _TIMED)
            batches = len(parser.get_parsed_content("validate#dataloader"))
            # A training that never validates may have a validator that cannot.
            batch_seconds = _time(validator, min(2, batches)) if interval <= epochs else 0.0
        return _Cost(step_seconds, epochs * per_epoch, batch_seconds, epochs // interval * batches)

    def evaluated_batches(self, step: Step) -> int:
        """Return how many batches an evaluation goes through."""
        key = step.settings[CELL_SETTINGS].get("split")
        if key not in self._evaluated:
            with quietly():
                self._evaluated[key] = len(self._parser(step).get_parsed_content("validate#dataloader"))
        return self._evaluated[key]

    def _parser(self, step: Step, short: Mapping[str, Any] | None = None) -> ConfigParser:
        scratch = self._places.setdefault(step.folder, self.scratch / str(len(self._places)))
        folders = {
            "bundle_root": str(step.configs[0].parents[1]),
            "dataset_dir": str(self.data.resolve()),
            "output_dir": str(scratch),
            "ckpt_dir": str(scratch / "models"),
            "resume": False,
            "datalist": "$table_frames",
        }
        inputs = {key: self._moved(value) for key, value in step.settings[CELL_SETTINGS].items()}
        config = {**step.merged(), **{key: value for key, value in inputs.items() if value is not None}}
        parser = ConfigParser({**config, **folders, **(short or {})}, globals={"table_frames": list(self.study.frames)})
        parser.parse()
        if step.name != EVALUATE and "initialize" in parser:
            parser.get_parsed_content("initialize")
        return parser

    def _moved(self, value: Any) -> str | None:
        """The file in the scratch folder that stands for one of an earlier stage; None if it is no such file."""
        for folder, scratch in self._places.items():
            if isinstance(value, str) and value.startswith(f"{folder}/"):
                return value.replace(str(folder), str(scratch), 1)
        return None


@contextmanager
def quietly() -> Iterator[None]:
    """Free `UserError`s, and keep back warnings, which the cells repeat."""
    with warnings.catch_warnings(), user_errors_freed():
        warnings.simplefilter("ignore")
        yield


def _time(engine: Engine, iterations: int | None) -> float:
    """Run an engine, up to so many iterations or to its end, and return the mean seconds of its iterations.

    Loading is included; the first iteration is left out if there are more.
    """
    ticks = [time.perf_counter()]

    def tick(_engine: Engine) -> None:
        ticks.append(time.perf_counter())
        if iterations is not None and len(ticks) > iterations:
            raise _Enough

    engine.add_event_handler(Events.ITERATION_COMPLETED, tick)
    logging.disable(logging.CRITICAL)  # engines log an exception before they pass it on
    try:
        engine.run()
    except _Enough:
        pass
    finally:
        logging.disable(logging.NOTSET)
    spans = [late - early for early, late in pairwise(ticks)]
    timed = spans[1:] or spans
    return sum(timed) / len(timed)
