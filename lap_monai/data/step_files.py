"""A step of a stream as a file: which classes it brings, and all the frames that it may read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lap_monai.checks import UserError
from lap_monai.data.layout import Row
from lap_monai.data.split import PARTS
from lap_monai.files import read_json, write_json
from lap_monai.keys import IMAGE, LABEL, VIDEO
from lap_monai.label_space import LabelSpace, get_label_space
from lap_monai.task_stream import TaskStep

if TYPE_CHECKING:
    from lap_monai.data.stream_plan import StreamPlan

__all__ = ["StepData", "read_step", "step_of_plan", "write_step"]


@dataclass(frozen=True)
class StepData:
    """What the training of one step of a stream sees.

    Args:
        stream: name of the stream; checkpoints of another one are refused.
        number: of the step, from 0.
        label_space: of the rows' masks.
        task: the classes.
        train: rows of the step's frames, with the `knowledge` that their labels may give.
        val: rows by which a model is chosen.
        test: rows on which it is evaluated.
    """

    stream: str
    number: int
    label_space: LabelSpace
    task: TaskStep
    train: list[Row]
    val: list[Row]
    test: list[Row]

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint of this step says of itself."""
        return self._identity(self.task)

    @property
    def previous_identity(self) -> dict[str, Any]:
        """What the checkpoint of the step before must say of itself."""
        return self._identity(self.task.previous) if self.task.previous else {}

    @property
    def choosing(self) -> list[Row]:
        """The rows by which a model is chosen: `val`, or the training frames where there is none."""
        return self.val or self.train

    def alone(self) -> StepData:
        """Return the step as if nothing had been learned before: what an expert for its new classes is trained on."""
        return replace(self, task=TaskStep(self.task.classes, (), self.task.new))

    def jointly(self) -> StepData:
        """Return the step with all its classes new, as joint training learns them (from all steps' frames)."""
        return replace(self, task=TaskStep(self.task.classes, (), self.task.seen))

    def _identity(self, task: TaskStep) -> dict[str, Any]:
        return {"stream": self.stream, "label_space": self.label_space.name, "channels": list(task.channels)}


def step_of_plan(plan: StreamPlan, number: int) -> StepData:
    """Return step `number` of a planned stream.

    It names the frames of this step and the test frames, and no others: who is given this alone cannot look back.
    """
    if not 0 <= number < len(plan.steps):
        raise UserError(f"Stream {plan.stream.name!r} has the steps 0 to {len(plan.steps) - 1}, none {number}.")
    step, space = plan.steps[number], plan.stream.label_space
    return StepData(plan.stream.name, number, space, step.task, step.train.rows, step.val.rows, plan.test.rows)


def write_step(path: str | Path, step: StepData) -> Path:
    """Write a step as JSON, whole or not at all, and return the path."""
    content = {
        "stream": step.stream,
        "step": step.number,
        "label_space": step.label_space.name,
        "old": step.task.old,
        "new": step.task.new,
        **{part: getattr(step, part) for part in PARTS},
    }
    return write_json(path, content)


def read_step(path: str | Path | None, root: str | Path = ".") -> StepData:
    """Return the step that `write_step` wrote.

    Args:
        path: the file.
        root: folder that relative paths of frames and masks start from.

    Raises:
        UserError: if there is no such file, it is no step, names a class that its label space lacks, or has no frames.
    """
    if path is None:
        raise UserError("No step: set step_datalist to the JSON file of a step, which the stream runner writes.")
    try:
        content = read_json(path)
        space = get_label_space(content["label_space"])
        task = TaskStep(space.classes, tuple(content["old"]), tuple(content["new"]))
        rows = {part: [_placed(row, Path(root)) for row in content[part]] for part in PARTS}
        step = StepData(str(content["stream"]), int(content["step"]), space, task, **rows)
    except OSError as error:
        raise UserError(f"step_datalist {str(path)!r} cannot be read ({error.strerror}); give a step's file.") from None
    except UserError as error:
        raise UserError(f"step_datalist {str(path)!r}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"step_datalist {str(path)!r} is no step of a stream ({type(error).__name__}: {error}); write it anew."
        ) from None
    if not step.train:
        raise UserError(f"step_datalist {str(path)!r} has no training frame; give the step some.")
    return step


def _placed(row: Row, root: Path) -> Row:
    label = row[LABEL]
    if isinstance(label, str):
        label = str(root / label)
    elif label is not None:
        label = {str(root / file): value for file, value in label.items()}
    return {**row, IMAGE: str(root / row[IMAGE]), LABEL: label, VIDEO: row[VIDEO]}
