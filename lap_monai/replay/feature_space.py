"""Distances between frames as vectors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lap_monai.replay.nearest import Nearest

_BATCH = 256
_SMALLEST = 1e-6  # standard deviation of an entry that says nothing


class FeatureSpace:
    """Nearest training frames by root mean squared difference of their features, each entry in units of its spread.

    Args:
        training: features of the M training frames, `(M, D)`; M >= 2, so that there is a spread.

    Raises:
        ValueError: if there are fewer.
    """

    def __init__(self, training: NDArray[np.float32]) -> None:
        if training.ndim != 2 or len(training) < 2:
            raise ValueError(f"FeatureSpace: expected features (M, D) with M >= 2, got {training.shape}.")
        self._mean, self._spread = training.mean(0), np.maximum(training.std(0), _SMALLEST)
        self._training = self._scaled(training)

    def nearest(self, features: NDArray[np.float32]) -> Nearest:
        """Return the nearest training frame of each of the features `(N, D)`."""
        found = [self._distances(part).min(dim=1) for part in self._scaled(features).split(_BATCH)]
        distance = torch.cat([values for values, _ in found])
        return Nearest(torch.cat([index for _, index in found]).numpy(), distance.double().numpy())

    def points(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features `(N, D)` as points whose Euclidean distances are the distances of this space."""
        return (features - self._mean) / (self._spread * np.sqrt(features.shape[1], dtype=np.float32))

    def _distances(self, scaled: Tensor) -> Tensor:
        # The faster way over matrix products loses the distance of a copy, 0, in rounding.
        return torch.cdist(scaled, self._training, compute_mode="donot_use_mm_for_euclid_dist")

    def _scaled(self, features: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(self.points(features))
