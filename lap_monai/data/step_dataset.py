"""Samples of one step of a stream: labels in the step's channels, and what they say of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lap_monai.data.cache import FrameCache
from lap_monai.data.dataset import FrameDataset, Sample, Transform
from lap_monai.data.layout import Row
from lap_monai.data.partial_labels import hide_classes, row_knowledge
from lap_monai.keys import IGNORE_INDEX, KNOWLEDGE
from lap_monai.label_space import LabelSpace
from lap_monai.task_stream import Knowledge, TaskStep

__all__ = ["StepDataset"]


class StepDataset(FrameDataset):
    """Frames of a cache as samples of a step: as `FrameDataset`, but in channels and with `knowledge`.

    | key | value |
    |---|---|
    | `label` | uint8 `(1, H, W)`: channel, 0 where nothing is drawn, 255 ignored |
    | `knowledge` | uint8 `(K,)`: what the label says of each channel, see `Knowledge`; nothing without a usable mask |
    | `classes` | float32 `(K,)`: 1 where a class is in the frame, 0 where it is known not to be, NaN where unknown |

    A mask shows the classes that the row's knowledge calls drawn; pixels of all others are 0, as if nobody had drawn
    them. So a sample tells no more than the stream's protocol allows.
    """

    def __init__(
        self,
        data: Sequence[Row],
        cache: FrameCache,
        label_space: LabelSpace,
        step: TaskStep,
        transform: Transform | None = None,
        use_masks: bool | Sequence[Row] = True,
        min_pixels: int = 1,
        unknown_values: str = "refuse",
        unseen: str = "ignore",
    ) -> None:
        """Choose frames of a cache. Arguments that are not listed are those of `FrameDataset`.

        Args:
            data: the rows of the frames, all of them in `cache`.
            step: whose channels the labels are in.
            unseen: what pixels become that show a class without a channel, and are not hidden: `"ignore"` or
                `"background"`. It matters in tests only; the rows of a stream hide what the future brings.

        Raises:
            UserError: as `FrameDataset` does.
        """
        super().__init__(data, cache, label_space, transform, use_masks, min_pixels, unknown_values)
        self.step = step
        known = [row_knowledge(row, step.classes) for row in self.rows]
        self._tables = [self._table(vector, unseen) for vector in known]
        channels = np.array([step.knowledge_of_channels(vector) for vector in known], np.uint8)
        channels = channels.reshape(-1, step.num_channels)
        self.class_vectors = self._classes_of_channels(channels)
        self.knowledge = np.where(self.has_mask[:, None], channels, np.uint8(Knowledge.UNKNOWN))

    knowledge: np.ndarray  #: `(N, K)` uint8, as in the samples

    @property
    def pixel_counts(self) -> np.ndarray:
        """`(K,)` int64: native pixels of each channel over the masks that may be used; hidden classes count as 0."""
        counts = np.zeros(256, np.int64)
        for index in self.masked:
            np.add.at(counts, self._tables[index], self.cache.histograms[self._positions[index]])
        return counts[: self.step.num_channels]

    def _whole(self, index: int) -> Sample:
        sample = super()._whole(index)
        sample[KNOWLEDGE] = torch.from_numpy(self.knowledge[index].copy())
        return sample

    def _label(self, index: int, position: int) -> np.ndarray:
        mask = self.cache.mask(position) if self.has_mask[index] else None
        if mask is None:
            return np.full((1, *self.cache.size), IGNORE_INDEX, np.uint8)
        return self._tables[index][mask][None]

    def _table(self, knowledge: np.ndarray, unseen: str) -> np.ndarray:
        """Channel of each of the 256 raw values in a row of such knowledge, `uint8 (256,)`."""
        return self.step.to_channels(hide_classes(self.label_space.lut, knowledge), unseen)

    def _classes_of_channels(self, knowledge: np.ndarray) -> np.ndarray:
        """`(N, K)`: what masks count where a class was drawn, what image-level labels say elsewhere."""
        counted = self.class_vectors[:, self.step.ids]
        said = [[row.get("presence", {}).get(name, False) for name in self.step.channels] for row in self.rows]
        shown = np.where(np.array(said, bool).reshape(knowledge.shape), 1, np.nan)
        shown[knowledge == Knowledge.ABSENT] = 0
        return np.where(knowledge == Knowledge.MASK, counted, shown).astype(np.float32)
