"""Samples of a step's real frames and of synthetic ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lap_monai.data.cache import FrameCache
from lap_monai.data.dataset import Sample
from lap_monai.data.layout import Row
from lap_monai.data.soft_targets import SoftTargets
from lap_monai.data.step_dataset import StepDataset
from lap_monai.keys import SOFT_TARGETS
from lap_monai.label_space import LabelSpace
from lap_monai.task_stream import TaskStep

__all__ = ["ReplayDataset"]


class ReplayDataset(StepDataset):
    """A `StepDataset` whose samples bring `soft_targets` along, `(K, H, W)` uint8: zeros for frames without answers.

    The transform must treat them as it treats labels (nearest neighbours, 255 in a border), so give it the key, with
    mode `"nearest"`. `masked` and `label_only` are the real and the synthetic frames: `MixedBatchSampler` mixes them.
    The other arguments are those of `StepDataset`; synthetic rows have no mask.

    Args:
        soft_targets: the answers; None leaves the entry out.
    """

    def __init__(
        self,
        data: Sequence[Row],
        cache: FrameCache,
        label_space: LabelSpace,
        step: TaskStep,
        soft_targets: SoftTargets | None = None,
        **options: Any,
    ) -> None:
        super().__init__(data, cache, label_space, step, **options)
        self.soft_targets = soft_targets

    def _whole(self, index: int) -> Sample:
        sample = super()._whole(index)
        if self.soft_targets is not None:
            sample[SOFT_TARGETS] = self.soft_targets.of(self.rows[index])
        return sample
