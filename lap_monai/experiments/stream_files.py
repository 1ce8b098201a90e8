"""The frames of a stream's steps, written down once: `steps/step_0.json` and so on, and `joint.json`.

A step's runs get its own file and nothing else, so they cannot read what earlier steps saw. And since nothing looks at
the data set again, frames of a step that is done may be deleted, as a hospital would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lap_monai.checks import require_dir
from lap_monai.data import Row, StepData, Stream, fingerprint, open_stream, read_step, step_of_plan, write_step
from lap_monai.data.stream_plan import StreamPlan
from lap_monai.experiments.claim import claim
from lap_monai.experiments.study import content_hash
from lap_monai.files import read_json, write_json
from lap_monai.task_stream import TaskStep

#: Folder of a run folder that holds the steps.
FOLDER = "steps"


@dataclass(frozen=True)
class StreamFiles:
    """A planned stream on disk.

    Args:
        run_dir: the run folder.
        steps: what each step may see.
        joint: the frames of all steps, for joint training.
        plan: counts and findings, see `StreamPlan.to_json`.
    """

    run_dir: Path
    steps: tuple[StepData, ...]
    joint: StepData
    plan: Mapping[str, Any]

    def step_file(self, number: int) -> Path:
        """Return the file of a step."""
        return self.run_dir / FOLDER / f"step_{number}.json"

    @property
    def joint_file(self) -> Path:
        """The file of all steps together."""
        return self.run_dir / FOLDER / "joint.json"

    @property
    def tasks(self) -> tuple[TaskStep, ...]:
        """What each step learns."""
        return tuple(step.task for step in self.steps)


def open_stream_files(run_dir: Path, stream: Stream, data: Path, resume: bool, progress: bool = True) -> StreamFiles:
    """Plan a stream and write its steps down; in a folder that holds them, read them.

    Args:
        run_dir: the run folder.
        stream: what is wanted.
        data: the data set's folder; looked at only where nothing is planned yet.
        resume: whether a folder that holds this stream may be gone on with.
        progress: whether the reading of a data set shows how far it is.

    Raises:
        UserError: if the folder holds another stream, another data set's, or this one and `resume` is false; or as
            `open_stream` and `read_step` do.
    """
    folder = require_dir(data, "The data set").resolve()
    identity = {
        "stream": stream.name,
        "label_space": stream.label_space.name,
        "dataset_dir": str(folder),
        "declaration": _declaration(stream),
    }
    declared = {key: value for key, value in vars(stream).items() if key not in ("label_space", "steps")}
    plan_file = run_dir / FOLDER / "plan.json"
    if (run_dir / "stream.json").is_file():
        claim(run_dir, "stream", identity, declared, resume)
    else:
        plan = open_stream(stream, folder, progress)
        steps, joint = planned_steps(plan)
        write_steps(run_dir, steps, joint)
        write_json(plan_file, {**plan.to_json(), "data": fingerprint([row for step in steps for row in _rows(step)])})
        claim(run_dir, "stream", identity, declared, resume)
    read = [read_step(run_dir / FOLDER / f"step_{number}.json") for number in range(len(stream.groups))]
    return StreamFiles(run_dir, tuple(read), read_step(run_dir / FOLDER / "joint.json"), read_json(plan_file))


def planned_steps(plan: StreamPlan) -> tuple[tuple[StepData, ...], StepData]:
    """Return what each step of a planned stream may see, and the frames of all steps, for joint training."""
    steps = tuple(step_of_plan(plan, number) for number in range(len(plan.steps)))
    joint = plan.joint(len(steps) - 1)
    return steps, replace(steps[-1], task=joint.task, train=joint.train.rows, val=joint.val.rows)


def write_steps(run_dir: Path, steps: Sequence[StepData], joint: StepData) -> None:
    """Write the files that runs of these steps are given."""
    for step in steps:
        write_step(run_dir / FOLDER / f"step_{step.number}.json", step)
    write_step(run_dir / FOLDER / "joint.json", joint)


def _rows(step: StepData) -> list[Row]:
    return [*step.train, *step.val, *step.test]


def _declaration(stream: Stream) -> str:
    """A hash of all that decides which frames a step gets."""
    told = {**vars(stream), "label_space": stream.label_space.name, "description": ""}
    return content_hash({key: value for key, value in told.items() if key != "steps"})
