"""A stream of three steps whose frames nobody reads, for the tests of what is run on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lap_monai.data import StepData
from lap_monai.experiments.stream_files import StreamFiles
from lap_monai.label_space import get_label_space
from lap_monai.task_stream import task_steps

SPACE = get_label_space("dsad_11")


def frame(patient: str, number: int) -> dict[str, Any]:
    """A datalist row of which nothing is known."""
    stem = f"/data/{patient}/image{number:02d}"
    known = [0] * SPACE.num_classes
    return {"image": f"{stem}.png", "label": {f"{stem}_mask.png": 1}, "video": patient, "clip": patient,
            "frame": number, "phase": None, "knowledge": known}  # fmt: skip


def make_files(run_dir: Path, frames: int = 2) -> StreamFiles:
    """Liver and stomach, then colon, then spleen; `frames` frames of a patient each."""
    tasks = task_steps(SPACE.classes, (("liver", "stomach"), ("colon",), ("spleen",)))
    test = [frame("test", 0)]
    steps = tuple(
        StepData("three", number, SPACE, task, [frame(f"step{number}", i) for i in range(frames)], [], test)
        for number, task in enumerate(tasks)
    )
    every = [row for step in steps for row in step.train]
    joint = StepData("three", 2, SPACE, tasks[-1], every, [], test)
    return StreamFiles(run_dir, steps, joint, {"data": "abc", "split": {"name": "own"}, "findings": []})
