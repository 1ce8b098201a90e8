"""Pictures for a stream's report: the same frames under every method after every step, and synthetic images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from lap_monai.data import read_mask
from lap_monai.experiments.panels import choose_frames, kept_predictions, predict_frames
from lap_monai.experiments.step_state import step_done
from lap_monai.experiments.stream_cells import StreamCell
from lap_monai.experiments.stream_collect import frame_scores
from lap_monai.experiments.stream_files import StreamFiles
from lap_monai.experiments.stream_replay import set_folder
from lap_monai.experiments.stream_step import StreamStep
from lap_monai.replay import SyntheticSet
from lap_monai.replay.teacher_labels import label_file
from lap_monai.reports import ReplaySample, StreamPanel
from lap_monai.task_stream import TaskStep

#: Synthetic images that are shown of each step.
SAMPLES = 4


def draw_stream_panels(files: StreamFiles, cells: Sequence[StreamCell]) -> list[StreamPanel]:
    """Return frames at three ranks of the score after the last step, averaged over the methods that have come there
    with the first seed; their predictions after every step that is done.

    Args:
        files: the stream's frames.
        cells: all cells, run or not.
    """
    first = [cell for cell in cells if cell.seed == cells[0].seed]
    last = len(files.steps) - 1
    through = [frame_scores(cell.evaluations[last]) for cell in first if step_done(cell.evaluations[last])]
    if not through:
        return []
    chosen = choose_frames(through)
    panels: list[StreamPanel] = []
    made: dict[Path, dict[str, NDArray[Any]]] = {}
    predictions: dict[str, dict[int, NDArray[np.uint8]]] = {}
    for place, name in enumerate(chosen):
        predictions = {}
        shown: dict[str, NDArray[Any]] = {}
        for cell in first:
            for number, evaluation in cell.evaluations.items():
                if step_done(evaluation):
                    if evaluation.folder not in made:
                        made[evaluation.folder] = _predictions(evaluation, chosen)
                    shown = made[evaluation.folder]
                    predictions.setdefault(cell.method.name, {})[number] = shown["predictions"][place]
        listed = ", ".join(f"{own[name][0]:.2f}" for own in through)
        truth = max((made[folder]["truths"][place] for folder in made), key=lambda ids: len(np.unique(ids)))
        panels.append(StreamPanel(name, f"mean IoU by method {listed}", shown["images"][place], truth, predictions))
    return panels


def draw_replay_samples(files: StreamFiles, cells: Sequence[StreamCell]) -> list[ReplaySample]:
    """Return the first synthetic images of each step that passed their audit, with what its teacher saw in them."""
    audits = {
        step.number: step
        for cell in cells
        for step in cell.steps
        if step.name == "audit" and step_done(step) and cell.seed == cells[0].seed
    }
    samples = []
    for number, audit in sorted(audits.items()):
        synthetic = SyntheticSet.open(set_folder(audit))
        task = judged_task(files, number)
        for image in synthetic.kept[:SAMPLES]:
            labels = synthetic.folder / label_file(image)
            seen = _read_labels(labels, task) if labels.is_file() else None
            samples.append(ReplaySample(number, f"image {image.index}", synthetic.read(image.index), seen))
    return samples


def judged_task(files: StreamFiles, number: int) -> TaskStep:
    """Return the classes of the network that judges a step's synthetic images: those that the step brought."""
    return files.steps[number].alone().task


def _read_labels(path: Path, task: TaskStep) -> NDArray[np.uint8]:
    return task.to_classes(np.asarray(read_mask(path)))


def _predictions(evaluation: StreamStep, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The frames, their truths and predictions of a run, in class ids."""

    def predict() -> dict[str, NDArray[Any]]:
        parser = ConfigParser({**evaluation.merged(), "num_workers": 0, "ckpt_dir": str(evaluation.folder / "models")})
        parser.parse()
        made = predict_frames(parser, evaluation.folder / "models" / "model.pt", names)
        task = parser.get_parsed_content("step")
        return {**made, **{key: task.to_classes(made[key]) for key in ("truths", "predictions")}}

    return kept_predictions(evaluation.folder, names, predict)
