"""The validation metric of an incremental step: each class judged where the labels know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ignite.engine import Engine
from ignite.metrics.metric import reinit__is_reduced
from numpy.typing import NDArray

from lap_monai.handlers.batch_values import FRAME_ID, batch_values
from lap_monai.handlers.segmentation_scores import SegmentationScores, gather_strings
from lap_monai.keys import KNOWLEDGE, VIDEO
from lap_monai.label_space import LabelSpace
from lap_monai.metrics import FrameScores, iou, known_counts, miou
from lap_monai.task_stream import TaskStep

#: Between the parts of a text that ranks exchange; MONAI's gather takes the tabulator for itself.
_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class StepFrameScores:
    """Per-frame statistics of N evaluated frames in the C channels of a step."""

    frames: FrameScores
    knowledge: NDArray[np.uint8]  #: `(N, C)`, see `Knowledge`

    @property
    def counts(self) -> NDArray[Any]:
        """A binary confusion matrix per frame and class, `(N, C, 2, 2)`, of the pixels where the class is known."""
        return known_counts(self.frames.matrices, self.knowledge)


class StepScores(SegmentationScores):
    """Pooled mIoU over a step's classes, without the background, under partial labels.

    At the end of an epoch, on every rank and over the frames of all ranks:
    - `engine.state.metrics[name]` is the mIoU of the classes that the truth contains, a float;
    - `engine.state.metrics[class_prefix + class]` is the pooled IoU of each of them, the background included;
    - `engine.state.metric_details[name]` is the `StepFrameScores` that `StepResults` reads.

    Predictions are logits in the channels of the step, labels channel numbers with 255 ignored; the batch's `knowledge`
    says where a class is known. Frames must be named by the batch's `video` and `id`.

    Args:
        label_space: of the data set, for names and colours.
        step: whose channels are meant.
        output_transform: engine output → (predictions, labels).
        class_prefix: begins the names of the per-class metrics.
    """

    def __init__(
        self,
        label_space: LabelSpace,
        step: TaskStep,
        output_transform: Callable | None = None,
        class_prefix: str = "val_iou/",
    ) -> None:
        super().__init__(channel_space(label_space, step), None, output_transform, class_prefix)

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all frames."""
        super().reset()
        self._known: list[str] = []

    def iteration_completed(self, engine: Engine) -> None:
        """Add the engine's current output, and the names and knowledge of its frames."""
        super().iteration_completed(engine)
        names = zip(batch_values(engine.state.batch, VIDEO), batch_values(engine.state.batch, FRAME_ID), strict=True)
        # As text, since texts are what ranks exchange anyway.
        for (video, name), vector in zip(names, batch_values(engine.state.batch, KNOWLEDGE), strict=True):
            self._known.append(_SEPARATOR.join((str(video), str(name), *map(str, vector))))

    def compute(self) -> float:
        """Return the mIoU of all frames of all ranks.

        Raises:
            UserError: if no frame has a labelled pixel.
        """
        return miou(self._scores(self.step_scores())[1:])

    def completed(self, engine: Engine, name: str) -> None:
        """Leave the scores in the engine's state."""
        details = self.step_scores()
        scores = self._scores(details)
        self._leave(engine, name, miou(scores[1:]), scores, details)

    def step_scores(self) -> StepFrameScores:
        """Return the statistics of the frames of all ranks.

        Raises:
            UserError: if no frame has a labelled pixel.
        """
        frames = self.frame_scores()
        known = {}
        for text in gather_strings(self._known):
            video, name, *vector = text.split(_SEPARATOR)
            known[video, name] = [int(value) for value in vector]
        rows = [known[key] for key in zip(frames.videos, frames.ids, strict=True)]
        return StepFrameScores(frames, np.array(rows, dtype=np.uint8))

    @staticmethod
    def _scores(details: StepFrameScores) -> NDArray[np.float64]:
        return iou(details.counts)[:, 1]


def channel_space(label_space: LabelSpace, step: TaskStep) -> LabelSpace:
    """Return the label space whose class ids are the channels of a step."""
    return LabelSpace(
        name=label_space.name,
        layout=label_space.layout,
        classes=step.channels,
        colours=tuple(label_space.colours[i] for i in step.ids),
        values={channel: channel for channel in range(step.num_channels)},
        ignored=(255,),
        origin=label_space.origin,
    )
