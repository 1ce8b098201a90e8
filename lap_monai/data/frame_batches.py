"""Batches of whole frames, with the augmentations that are still to be applied."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.data import Dataset, default_collate

from lap_monai.checks import UserError
from lap_monai.data.dataset import FrameDataset, Sample
from lap_monai.keys import AUGMENTATIONS
from lap_monai.transforms import RandSurgicalAugmentd

__all__ = ["FrameBatches"]


class FrameBatches(Dataset[Sample]):
    """Batches of a data set's samples, untransformed: bytes of whole frames, and under `augmentations` what was drawn.

    `PrepareMixedBatch` applies the augmentations on the trainer's device (`augment_images`, `augment_labels`), a whole
    batch at a time. They are drawn as the data set itself draws them, so an `(index, seed)` pair gives the sample that
    `dataset[(index, seed)]` gives, to a grey level. It is meant for GPUs, where nobody has measured it yet; a CPU
    gains nothing (`benchmarks/training.py`).

    Indexed by lists of keys: give torch's `DataLoader` the batch sampler as `sampler`, and `batch_size=None`.

    Args:
        dataset: gives frames, labels and the transform, which must be a `RandSurgicalAugmentd`.

    Raises:
        UserError: if the data set has another transform.
    """

    def __init__(self, dataset: FrameDataset) -> None:
        transform = getattr(dataset, "transform", None)
        if not isinstance(transform, RandSurgicalAugmentd):
            raise UserError(
                f"batches can be augmented by RandSurgicalAugmentd alone, not by {type(transform).__name__}; set "
                "train#preprocessing, or leave batch_augmentation.json out."
            )
        self.dataset, self.augment = dataset, transform

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.dataset)

    def __getitem__(self, keys: Sequence[int | tuple[int, int]]) -> Sample:
        """Return the batch of these keys, each an index or an `(index, seed)` pair."""
        samples, augmentations = [], []
        for key in keys:
            index, seed = key if isinstance(key, tuple) else (key, None)
            if seed is not None:
                self.augment.set_random_state(seed=seed)
            samples.append(self.dataset.whole(index))
            augmentations.append(self.augment.draw(*self.dataset.cache.size))
        return {**default_collate(samples), AUGMENTATIONS: augmentations}
