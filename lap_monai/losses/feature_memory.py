"""A first-in, first-out memory of the features of earlier batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lap_monai.losses.pair_weights import ImageLabels


class Remembered(NamedTuple):
    """K images of earlier batches, oldest first."""

    features: Tensor  #: unit vectors `(K, L, D)`, one per scale, without gradient
    classes: Tensor  #: multi-hot class vectors `(K, C)`
    phase: Tensor  #: phase indices `(K,)`, -1 = unknown

    @property
    def labels(self) -> ImageLabels:
        """The image-level labels, as the losses compare them."""
        return ImageLabels(self.classes, self.phase)


class FeatureMemory:
    """The features of the last `size` images with their labels (cross-batch memory, Wang et al. 2020, section 3.2).

    Features drift slowly, so those of the last steps serve as further columns of the similarity matrix: small batches
    get positives and negatives at the price of a matrix product. It takes what it is given: in a distributed training
    give every rank the gathered features, then all memories are alike.

    Args:
        size: how many images are remembered; more than 0.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"FeatureMemory: expected a size of at least 1, got {size}.")
        self.size = size
        self._images: Remembered | None = None

    def __len__(self) -> int:
        """How many images are remembered."""
        return 0 if self._images is None else len(self._images.features)

    def recall(self) -> Remembered | None:
        """Return what is remembered, or None before the first batch."""
        return self._images

    def remember(self, features: Tensor, classes: Tensor, phase: Tensor) -> None:
        """Add a batch; the oldest images make room.

        Args:
            features: `(B, L, D)`; only their values are kept.
            classes: `(B, C)`.
            phase: `(B,)`.
        """
        batch = (features.detach(), classes, phase)
        rows = batch if self._images is None else tuple(map(torch.cat, zip(self._images, batch, strict=True)))
        self._images = Remembered(*(row[-self.size :].clone() for row in rows))

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is remembered, by name."""
        return {} if self._images is None else dict(self._images._asdict())

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Remember what a `state_dict` holds, and nothing else; the newest if it holds more than `size`."""
        self._images = None
        if state_dict:
            self.remember(*(state_dict[name] for name in Remembered._fields))
