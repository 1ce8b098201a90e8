"""How sure a network usually is of each class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lap_monai.losses.precision import full_precision

#: Width of the bins in which entropies, 0 to 1, are counted: far below any difference that matters.
_BINS = 2**16


def prediction_entropy(logits: Tensor) -> Tensor:
    """Return the entropy `(B, H, W)` of the softmax of `logits` `(B, C, H, W)`, divided by its maximum ln C: 0 to 1."""
    log_p = full_precision(logits).log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1) / math.log(logits.shape[1])


class EntropyMedians:
    """The median, over the pixels that a network takes for a class, of its entropy (PLOP, Douillard et al. 2021, 3.3).

    Entropies of a whole data set do not fit into memory; they are counted in 65,536 bins, so that a median is exact to
    1 / 65,536. Of an even number of pixels it is the lower of the middle two, as `torch.median`.

    Args:
        num_channels: of the network, background included.
    """

    def __init__(self, num_channels: int) -> None:
        self._counts = torch.zeros(num_channels, _BINS, dtype=torch.int64)

    def update(self, logits: Tensor, where: Tensor | None = None) -> None:
        """Count the pixels of some images.

        Args:
            logits: `(B, C, H, W)`.
            where: bool `(B, 1, H, W)`, the pixels that count; None for all.
        """
        channels = logits.argmax(dim=1)
        bins = (prediction_entropy(logits) * _BINS).long().clamp(0, _BINS - 1)
        index = channels * _BINS + bins
        index = index.flatten() if where is None else index[where[:, 0]]
        counts = torch.bincount(index, minlength=self._counts.numel())
        self._counts += counts.reshape(self._counts.shape).to(self._counts.device)

    def thresholds(self) -> Tensor:
        """Return the median `(C,)` of each channel, 0 to 1; 0 for one that was never predicted: nothing is sure."""
        total = self._counts.sum(dim=1, keepdim=True)
        middle = (total + 1) // 2
        position = (self._counts.cumsum(dim=1) < middle).sum(dim=1)  # the bin of the middle pixel
        # Upper edges, so that the middle pixel itself does not exceed its median.
        return torch.where(total[:, 0] > 0, (position + 1) / _BINS, 0.0)
