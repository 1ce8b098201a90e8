"""Two augmented views of each frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lap_monai.data.dataset import FrameDataset
from lap_monai.keys import IMAGE, VIEW

__all__ = ["TwoViews"]


class TwoViews(Dataset[dict[str, Any]]):
    """Samples of a data set, each with a second augmentation of its frame under `view`.

    As in the data set, a sample is a function of `(index, seed)` alone; the second view has a seed of its own.

    Args:
        dataset: gives the samples.
        view_dataset: gives the second views: the same frames, perhaps with a stronger transform.

    Raises:
        ValueError: if the two do not hold the same frames.
    """

    def __init__(self, dataset: FrameDataset, view_dataset: FrameDataset) -> None:
        if dataset.rows != view_dataset.rows:
            raise ValueError("TwoViews: expected two data sets of the same frames in the same order.")
        self.dataset, self.view_dataset = dataset, view_dataset

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return sample `index`, or sample `(index, seed)`."""
        sample = self.dataset[key]
        sample[VIEW] = self.view_dataset[_other_seed(key)][IMAGE]
        return sample


def _other_seed(key: int | tuple[int, int]) -> int | tuple[int, int]:
    if not isinstance(key, tuple):
        return key
    index, seed = key
    return index, int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
