"""A loss whose weight is learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class UncertaintyWeightedLoss(nn.Module):
    """Weigh a loss by a learned uncertainty: `exp(-s) loss + s / 2` (Kendall et al. 2018, eq. 10, s = log sigma^2).

    A term that stays high is given less weight, at the price of the second summand.

    Deviation: only injected terms are weighed. The segmentation keeps weight 1, which fixes the scale of the others.

    Args:
        loss: the loss that is weighed.
        index: which of the network's log-variances is the loss's own.
    """

    def __init__(self, loss: Callable[..., Tensor], index: int) -> None:
        super().__init__()
        self.loss = loss
        self.index = index

    def forward(self, log_variances: Tensor, *inputs: Any) -> Tensor:
        """Return the weighed loss, a scalar that may be negative.

        Args:
            log_variances: `(T,)`, learned; `MultiTaskSegmenter` holds and returns them.
            inputs: those of the loss.
        """
        log_variance = log_variances[self.index].float()
        return (-log_variance).exp() * self.loss(*inputs) + log_variance / 2
