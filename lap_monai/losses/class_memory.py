"""A first-in, first-out memory of features, one queue a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class RememberedClasses(NamedTuple):
    """K features of earlier images, by class, oldest first within a class."""

    features: Tensor  #: unit vectors `(K, D)`, without gradient
    classes: Tensor  #: channel numbers `(K,)`, int64


class ClassMemory:
    """The last `size` features of each class (He et al. 2020's queue, one a class as in Wang et al. 2021, section 3.3).

    Channel numbers do not change from step to step, so a memory goes on in the next one: it holds features, no images.

    Args:
        size: how many features of each class are remembered; 0 for no memory.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"ClassMemory: expected a size of 0 or more, got {size}.")
        self.size = size
        self._queues: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """How many features are remembered."""
        return sum(map(len, self._queues.values()))

    def recall(self) -> RememberedClasses | None:
        """Return what is remembered, classes in order, or None before the first image."""
        if not self._queues:
            return None
        queues = [(channel, self._queues[channel]) for channel in sorted(self._queues)]
        classes = [torch.full((len(queue),), channel, device=queue.device) for channel, queue in queues]
        return RememberedClasses(torch.cat([queue for _, queue in queues]), torch.cat(classes))

    def remember(self, features: Tensor, classes: Tensor) -> None:
        """Add features `(N, D)` of classes `(N,)`; the oldest of each class make room. Only values are kept."""
        for channel in classes.unique().tolist() if self.size else ():
            mine = features[classes == channel].detach()
            before = self._queues.get(channel, mine[:0]).to(mine)
            self._queues[channel] = torch.cat([before, mine])[-self.size :].clone()

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is remembered, by name."""
        remembered = self.recall()
        return {} if remembered is None else dict(remembered._asdict())

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Remember what a `state_dict` holds, and nothing else; the newest if it holds more than `size` a class."""
        self._queues = {}
        if state_dict:
            self.remember(state_dict["features"], state_dict["classes"])
