"""How long a stream would take: every kind of run of its first two steps, cut down, in a scratch folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

from lap_monai.data import StepData
from lap_monai.data.stream_plan import StreamPlan
from lap_monai.experiments.dry_run import START_SECONDS, quietly
from lap_monai.experiments.durations import duration
from lap_monai.experiments.step import EVALUATE
from lap_monai.experiments.stream_cells import StreamCell, build_stream_cells
from lap_monai.experiments.stream_files import StreamFiles, planned_steps, write_steps
from lap_monai.experiments.stream_step import TRAIN_SETTINGS, StreamStep
from lap_monai.experiments.stream_study import Method, StreamStudy

#: What the timed runs are cut down to: frames of each part, iterations, synthetic images.
_FRAMES, _ITERATIONS, _IMAGES = 24, 3, 4

#: Networks that are asked about each frame before a training that has an expert: it and the teacher.
_ASKED = 2


@dataclass(frozen=True)
class _Cost:
    """Seconds of one iteration of a training, or of one synthetic image; and of one frame that is predicted."""

    unit: float = 0.0
    frame: float = 0.0


@dataclass(frozen=True)
class _Work:
    """How many of them a run takes."""

    units: int = 0
    frames: int = 0

    def seconds(self, cost: _Cost) -> float:
        return START_SECONDS + self.units * cost.unit + self.frames * cost.frame


def stream_estimate(
    plan: StreamPlan, study: StreamStudy, methods: Sequence[Method], seeds: Sequence[int], jobs: int = 1
) -> Iterator[str]:
    """Yield how long each kind of run takes, and all of them together.

    The runs of steps 0 and 1 are done with their real configs, cut down to a few frames, iterations and images; later
    steps are taken to cost what step 1 does. The audits of synthetic images are left out.

    Args:
        plan: the stream's frames.
        study: how networks are trained.
        methods: those to be run.
        seeds: of the trainings.
        jobs: how many runs go on at a time.
    """
    steps, joint = planned_steps(plan)
    with tempfile.TemporaryDirectory() as folder, quietly():
        short = StreamFiles(Path(folder).resolve(), tuple(map(_cut, steps)), _cut(joint), {})
        write_steps(short.run_dir, short.steps, short.joint)
        costs: dict[str, _Cost] = {}
        works: dict[str, list[_Work]] = {}
        done: set[Path] = set()
        for cell in build_stream_cells(study, short, methods, seeds[:1]):
            for run in cell.steps:
                if run.name == "audit" or run.state_file in done:
                    continue
                done.add(run.state_file)
                kind = _kind(cell, run)
                images = works["generate"][0].units if "generate" in works else 0
                work = _work(run, joint if cell.method.joint else steps[run.number], images)
                works.setdefault(kind, []).append(work)
                # A run whose files others need is done even where its kind has been timed.
                if kind not in costs or (run.number <= 1 and run.name != EVALUATE):
                    cost = _measure(run)
                    costs.setdefault(kind, cost)
    total = 0.0
    for kind, parts in works.items():
        seconds = sum(part.seconds(costs[kind]) for part in parts)
        total += seconds
        yield f"{kind}: {len(parts)} x {duration(seconds / len(parts))}, {_pace(costs[kind])}"
    total *= len(seeds) / max(1, min(jobs, len(methods) * len(seeds)))
    at_once = f", {jobs} at a time (more if they share cores)" if jobs > 1 else ""
    yield (
        f"estimated time on this machine: {duration(total)} for {len(methods)} methods and {len(seeds)} seeds"
        f"{at_once}, audits of synthetic images not counted; stated: {study.expected_time}"
    )


def _cut(step: StepData) -> StepData:
    """A step with a few frames of each part, spread over all of them."""
    parts = {part: getattr(step, part) for part in ("train", "val", "test")}
    return replace(step, **{part: rows[:: -(-len(rows) // _FRAMES) or 1] for part, rows in parts.items()})


def _kind(cell: StreamCell, run: StreamStep) -> str:
    if run.name != "train":
        return run.name
    return cell.method.name if cell.folder in (run.folder, *run.folder.parents) else run.folder.name.split("_")[0]


def _work(run: StreamStep, step: StepData, images: int) -> _Work:
    """How much a run does to the frames of a step; a synthetic set has so many images."""
    parser = ConfigParser(run.merged())
    value = parser.get_parsed_content
    if run.name == EVALUATE:
        return _Work(frames=len(step.test))
    if run.name == "generate":
        return _Work(value("count"))
    if run.name != "train":
        return _Work()
    batch = value("real_per_batch") if "real_per_batch" in parser else value("batch_size")
    units = value("epochs") * (value("steps_per_epoch") or -(-len(step.train) // batch))
    if "val_interval" not in parser:
        return _Work(units)
    told = run.settings[TRAIN_SETTINGS]
    asked = len(step.train) + images * len(told.get("synthetic_sets", ())) if "expert_checkpoint" in told else 0
    return _Work(units, value("epochs") // value("val_interval") * len(step.choosing) + _ASKED * asked)


def _measure(run: StreamStep) -> _Cost:
    """Do a run, cut down."""
    config = _shortened(run)
    parser = ConfigParser(config)
    parser.parse()
    value = parser.get_parsed_content
    if "initialize" in parser:
        value("initialize")
    trained = _Clock(value("train#trainer")) if run.name == "train" else None
    validated = _Clock(value("validate#evaluator")) if "validate" in parser else None
    began = time.perf_counter()
    value("run")
    took = time.perf_counter() - began
    if run.name == "generate":
        return _Cost(took / _IMAGES)
    batch = config["validate"]["dataloader"]["batch_size"] if validated else 1
    return _Cost(trained.seconds if trained else 0.0, validated.seconds / batch if validated else 0.0)


def _shortened(run: StreamStep) -> dict[str, Any]:
    config = run.merged()
    short = {"epochs": 1, "steps_per_epoch": _ITERATIONS, "val_interval": 1, "count": _IMAGES, "num_workers": 0}
    free = {"resume": False, "accept_unaudited": True}
    places = {
        "bundle_root": str(run.configs[0].parents[1]),
        "output_dir": str(run.folder),
        "ckpt_dir": str(run.folder / "models"),
    }
    return config | {key: value for key, value in (short | free | places).items() if key in config}


class _Clock:
    """Seconds of an engine's iterations, loading included; the first is left out if there are more."""

    def __init__(self, engine: Engine) -> None:
        self.ticks: list[float] = []
        engine.add_event_handler(Events.EPOCH_STARTED, self._tick)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._tick)

    def _tick(self, _engine: Engine) -> None:
        self.ticks.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """The mean; 0 if it did nothing."""
        spans = [late - early for early, late in pairwise(self.ticks)]
        timed = spans[1:] or spans
        return sum(timed) / max(len(timed), 1)


def _pace(cost: _Cost) -> str:
    units = f"{cost.unit:.2f} s an iteration or image" if cost.unit else ""
    frames = f"{cost.frame:.3f} s a predicted frame" if cost.frame else ""
    return ", ".join(part for part in (units, frames) if part) or "next to nothing"
