"""Local POD: what a map shows along its rows and columns stays, coarsely and finely."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lap_monai.losses.precision import full_precision


class LocalPodLoss(nn.Module):
    """Distance of pooled feature maps from the teacher's (PLOP, Douillard et al. 2021, section 3.2).

    A map is cut into 1, 2 x 2, 4 x 4, ... regions of equal size; of each region, the means over its columns and the
    means over its rows are kept (pooled outputs distillation). The loss of a layer is the Frobenius norm of the
    difference of all these means, the mean over the images; of several layers, their mean.

    Deviation: the maps are squared first and the norm is not, both as in the published experiments, to whose scale the
    weights 0.01 (encoder) and 0.0005 (logits) belong. Means along the two axes are taken with the length of their own
    axis, so that maps need not be square.

    Args:
        scales: regions along each axis of the map at every scale.
    """

    def __init__(self, scales: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        if not scales or min(scales) < 1:
            raise ValueError(f"LocalPodLoss: expected scales of at least 1 region, got {list(scales)}.")
        self.scales = tuple(scales)

    def forward(self, maps: Tensor | Sequence[Tensor], teacher_maps: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the loss, a scalar of at least 0.

        Args:
            maps: one or several maps of the student, `(B, C, H, W)` each.
            teacher_maps: the teacher's. A teacher with fewer channels is compared with the student's first ones, which
                is how a step's network orders its logits.

        Raises:
            ValueError: if a map has fewer pixels along an axis than regions, or the maps do not fit together.
        """
        ours, theirs = ([x] if isinstance(x, Tensor) else list(x) for x in (maps, teacher_maps))
        layers = [self._distance(a, b) for a, b in zip(ours, theirs, strict=True)]
        return torch.stack(layers).mean()

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        student = student[:, : teacher.shape[1]]
        if student.shape != teacher.shape or min(student.shape[2:]) < max(self.scales):
            raise ValueError(
                f"LocalPodLoss: expected two maps (B, C, H, W) of at least {max(self.scales)} pixels along each axis, "
                f"got {tuple(student.shape)} and {tuple(teacher.shape)}."
            )
        # The difference of means is the mean of differences: one pooling instead of two.
        difference = full_precision(student).square() - full_precision(teacher.detach()).square()
        pooled = torch.cat([_pooled(difference, scale) for scale in self.scales], dim=1)  # (B, E)
        return _norm(pooled).sum() / max(len(pooled), 1)


def _pooled(maps: Tensor, regions: int) -> Tensor:
    """Return the row and column means `(B, E)` of `regions` x `regions` parts of maps `(B, C, H, W)`."""
    parts = [
        part.mean(dim=axis).flatten(1)
        for rows in maps.tensor_split(regions, dim=2)
        for part in rows.tensor_split(regions, dim=3)
        for axis in (2, 3)
    ]
    return torch.cat(parts, dim=1)


def _norm(vectors: Tensor) -> Tensor:
    """Return the length of each row; that of a zero vector has the gradient 0, not NaN."""
    squares = vectors.square().sum(dim=1)
    return torch.where(squares > 0, squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt(), 0.0)
