"""The validation metric: per-frame confusion matrices collected from a stock evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.handlers import from_engine
from monai.utils import evenly_divisible_all_gather, string_list_all_gather
from numpy.typing import NDArray
from torch import Tensor

from lap_monai.checks import UserError
from lap_monai.handlers.batch_values import FRAME_ID, batch_values, class_ids
from lap_monai.keys import LABEL, PRED, VIDEO
from lap_monai.label_space import LabelSpace, get_label_space
from lap_monai.metrics import FrameScores, confusion_matrix, iou, miou, surface_dice


class SegmentationScores(Metric):
    """Pooled mIoU over the classes present in the truth, as the key metric of a MONAI evaluator.

    At the end of an epoch, on every rank and over the frames of all ranks:
    - `engine.state.metrics[name]` is the mIoU, a float;
    - `engine.state.metrics[class_prefix + class]` is the pooled IoU of each present class;
    - `engine.state.metric_details[name]` is the `FrameScores` that `ResultsWriter` reads.

    Predictions may be logits or one-hot `(C, H, W)`, or class ids `(1, H, W)`; labels are class ids with 255 ignored;
    both come batched, or decollated into lists. Frames are named by the batch's `video` and `id`. Frames without any
    labelled pixel are left out. A frame that several ranks hold (samplers pad) counts once.

    Args:
        label_space: the label space or its name.
        nsd_tolerance: also compute the normalised surface Dice with this tolerance in pixels; slower, so for evaluation
            rather than for validation while training.
        output_transform: engine output → (predictions, labels).
        class_prefix: begins the names of the per-class metrics.

    Examples:
        In a bundle:

            "key_val_metric": {"val_mean_iou": {"_target_": "lap_monai.handlers.SegmentationScores",
                                                "label_space": "@label_space"}}
    """

    def __init__(
        self,
        label_space: LabelSpace | str,
        nsd_tolerance: float | None = None,
        output_transform: Callable | None = None,
        class_prefix: str = "val_iou/",
    ) -> None:
        self.label_space = get_label_space(label_space) if isinstance(label_space, str) else label_space
        self.nsd_tolerance = nsd_tolerance
        self.class_prefix = class_prefix
        super().__init__(output_transform=output_transform or from_engine([PRED, LABEL]))

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all frames."""
        self._matrices: list[Tensor] = []
        self._nsd: list[Tensor] = []
        self._videos: list[str] = []
        self._ids: list[str] = []
        self._size = (0, 0)

    @reinit__is_reduced
    def update(self, output: Sequence[Any]) -> None:
        """Add the frames of one iteration.

        Args:
            output: (predictions, labels), each a batched tensor or a list of one tensor per frame.
        """
        for prediction, label in zip(*output, strict=True):
            ids = class_ids(prediction)[None].to(label.device)
            self._matrices.append(confusion_matrix(ids, label[None], self.label_space.num_classes)[0].cpu())
            if self.nsd_tolerance is not None:
                self._nsd.append(surface_dice(ids, label, self.label_space.num_classes, self.nsd_tolerance)[0])
            self._size = (int(label.shape[-2]), int(label.shape[-1]))

    def iteration_completed(self, engine: Engine) -> None:
        """Add the engine's current output, and the names of its frames."""
        before = len(self._matrices)
        self.update(self._output_transform(engine.state.output))
        added = len(self._matrices) - before
        rank = idist.get_rank()
        nameless = [f"frame_{rank}_{i}" for i in range(before, before + added)]
        self._videos += _names(engine, VIDEO) or ["unnamed"] * added
        self._ids += _names(engine, FRAME_ID) or nameless

    def compute(self) -> float:
        """Return the mIoU of all frames of all ranks.

        Raises:
            UserError: if no frame has a labelled pixel.
        """
        return miou(iou(self.frame_scores().matrices))

    def completed(self, engine: Engine, name: str) -> None:
        """Leave the scores in the engine's state."""
        frames = self.frame_scores()
        scores = iou(frames.matrices)
        self._leave(engine, name, miou(scores), scores, frames)

    def _leave(self, engine: Engine, name: str, value: float, scores: NDArray[np.float64], details: object) -> None:
        """Leave the metric's value, the score of each class `(C,)` and the details in the engine's state."""
        engine.state.metrics[name] = value
        for label_class, score in zip(self.label_space.classes, scores, strict=True):
            # A value of an earlier epoch must not stay where a class is absent now.
            engine.state.metrics.pop(self.class_prefix + label_class, None)
            if np.isfinite(score):
                engine.state.metrics[self.class_prefix + label_class] = float(score)
        state: Any = engine.state
        if not hasattr(state, "metric_details"):  # a plain Ignite engine
            state.metric_details = {}
        state.metric_details[name] = details

    def frame_scores(self) -> FrameScores:
        """Return the statistics of the frames of all ranks that have labelled pixels.

        Raises:
            UserError: if there is none.
        """
        classes = self.label_space.num_classes
        matrices = _gather(self._matrices, torch.zeros(0, classes, classes, dtype=torch.int64))
        videos, ids = gather_strings(self._videos), gather_strings(self._ids)
        nsd = None
        if self.nsd_tolerance is not None:
            nsd = _gather(self._nsd, torch.zeros(0, classes, dtype=torch.float64))
        keep = [i for i in _first_of_each(list(zip(videos, ids, strict=True))) if matrices[i].any()]
        if not keep:
            raise UserError(
                f"None of the {len(matrices)} evaluated frames has a pixel labelled in {self.label_space.name!r}; "
                "check the masks of this split and the label space."
            )
        return FrameScores(
            matrices=matrices[keep].numpy(),
            videos=tuple(videos[i] for i in keep),
            ids=tuple(ids[i] for i in keep),
            size=self._size,
            nsd=None if nsd is None else nsd[keep].numpy(),
            nsd_tolerance=self.nsd_tolerance,
        )


def _names(engine: Engine, key: str) -> list[str]:
    return [str(name) for name in batch_values(engine.state.batch, key)]


def _gather(parts: list[Tensor], empty: Tensor) -> Tensor:
    data = torch.stack(parts) if parts else empty
    if idist.get_world_size() == 1:
        return data
    return evenly_divisible_all_gather(data.to(idist.device()), concat=True).cpu()


def gather_strings(strings: list[str]) -> list[str]:
    """Return the strings of all ranks, in rank order; none may be empty."""
    # MONAI's gather turns an empty list into one empty string; the added one makes all ranks alike.
    return [text for text in string_list_all_gather([*strings, ""]) if text]


def _first_of_each(names: list[tuple[str, str]]) -> list[int]:
    """Positions of the first occurrence of each name; all positions in a single process, where nothing is padded."""
    if idist.get_world_size() == 1:
        return list(range(len(names)))
    return sorted({name: i for i, name in reversed(list(enumerate(names)))}.values())
