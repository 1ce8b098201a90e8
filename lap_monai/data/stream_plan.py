"""A planned stream: which frames each step gets, and what their labels may say there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lap_monai.data.finding import Finding
from lap_monai.data.layout import Row
from lap_monai.data.ordering import natural_key
from lap_monai.data.split import Split
from lap_monai.data.streams import Stream
from lap_monai.keys import IMAGE, KNOWLEDGE, VIDEO
from lap_monai.task_stream import Knowledge, TaskStep, complete_knowledge

__all__ = ["FrameSet", "StepPlan", "StreamPlan"]


@dataclass(frozen=True)
class FrameSet:
    """Frames with what is drawn in them.

    Args:
        rows: datalist rows, each with the `knowledge` that its labels may give.
        pixels: native pixels of each drawn class, `int64 (N, C)`; 0 for classes that are hidden.
    """

    rows: list[Row]
    pixels: NDArray[np.int64]

    @property
    def patients(self) -> list[str]:
        """Their patients, in natural order."""
        return sorted({row[VIDEO] for row in self.rows}, key=natural_key)

    def count(self, classes: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return, for each class, the frames and patients that show it, its pixels, and the frames known to lack it."""
        known = np.array([row[KNOWLEDGE] for row in self.rows]).reshape(self.pixels.shape)
        counts = {}
        for i, name in enumerate(classes):
            shown = self.pixels[:, i] > 0
            counts[name] = {
                "frames": int(shown.sum()),
                "patients": len({row[VIDEO] for row, there in zip(self.rows, shown, strict=True) if there}),
                "pixels": int(self.pixels[:, i].sum()),
                "absent": int(((known[:, i] != Knowledge.UNKNOWN) & ~shown).sum()),
            }
        return counts


@dataclass(frozen=True)
class StepPlan:
    """One step of a stream: what it learns, from which frames, and by which frames a model of it is chosen."""

    task: TaskStep
    train: FrameSet
    val: FrameSet


@dataclass(frozen=True)
class StreamPlan:
    """All steps of a stream over a data set.

    Args:
        stream: what was planned.
        split: which patients train, validate and test.
        steps: in order.
        test: the frames that every step is tested on: those of which some of the stream's classes are known, with all
            that is known.
        findings: what a reader of the results should know; nothing that makes them wrong, for that is refused.
    """

    stream: Stream
    split: Split
    steps: tuple[StepPlan, ...]
    test: FrameSet
    findings: list[Finding]

    def joint(self, number: int) -> StepPlan:
        """Return steps 0 to `number` as one, which learns all their classes at once: the bound that a stream aims at.

        A frame that served several steps comes once, with all that they were told of it; so joint training has the
        frames and labels of the stream, no more.
        """
        steps = self.steps[: number + 1]
        classes, seen = steps[-1].task.classes, steps[-1].task.seen
        return StepPlan(
            TaskStep(classes, (), seen), _united([step.train for step in steps]), _united([step.val for step in steps])
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        stream = self.stream

        def described(frames: FrameSet, classes: Sequence[str]) -> dict[str, Any]:
            counted = frames.count(stream.label_space.classes)
            return {
                "frames": len(frames.rows),
                "patients": frames.patients,
                "classes": {name: counted[name] for name in classes},
            }

        return {
            "stream": stream.name,
            "label_space": stream.label_space.name,
            "protocol": stream.protocol,
            "patients": stream.patients,
            "split": self.split.to_json(),
            "steps": [
                {
                    "old": list(step.task.old),
                    "new": list(step.task.new),
                    "train": described(step.train, step.task.seen),
                    "val": described(step.val, step.task.seen),
                }
                for step in self.steps
            ],
            "test": {"part": stream.evaluate, **described(self.test, stream.steps[-1].seen)},
            "findings": [vars(finding) for finding in self.findings],
        }


def _united(sets: Sequence[FrameSet]) -> FrameSet:
    """The frames of several sets, each once; `MASK` outdoes `ABSENT`, and both outdo `UNKNOWN`."""
    rows: dict[str, Row] = {}
    pixels: dict[str, NDArray[np.int64]] = {}
    for frames in sets:
        for row, counts in zip(frames.rows, frames.pixels, strict=True):
            name = row[IMAGE]
            before = rows.get(name, row)
            known = complete_knowledge(np.maximum(before[KNOWLEDGE], row[KNOWLEDGE]))
            rows[name] = {**row, KNOWLEDGE: known.tolist()}
            pixels[name] = np.maximum(pixels.get(name, counts), counts)
    width = sets[0].pixels.shape[1]
    return FrameSet(list(rows.values()), np.array(list(pixels.values()), np.int64).reshape(-1, width))
