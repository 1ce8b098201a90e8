"""Losses of a trainer that also sees images without labels, and whose terms are all injected."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lap_monai.losses.replay_distillation import labelled_first


class LabelledImagesLoss(nn.Module):
    """A supervised loss of the images with labels, which come first; those without do not dilute its mean.

    Args:
        loss: pure callable from tensors of those images, each `(M, ...)`, to a scalar.
    """

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, labelled: Tensor, *tensors: Tensor) -> Tensor:
        """Return the loss of the first M images.

        Args:
            labelled: bool `(B,)`, M times True, then False.
            tensors: what the loss takes, `(B, ...)` each.
        """
        count = labelled_first(labelled)
        return self.loss(*(tensor[:count] for tensor in tensors))


class NoLoss(nn.Module):
    """Zero, connected to the graph: the own loss of a trainer whose supervised term is injected like every other."""

    def forward(self, logits: Tensor, _label: Tensor) -> Tensor:
        """Return 0."""
        return logits[:0].sum()
