"""How strongly two images attract each other: by equal labels, or by how far their labels overlap."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ImageLabels(NamedTuple):
    """What is known of N images at the level of the image."""

    classes: Tensor  #: multi-hot class vectors `(N, C)`
    phase: Tensor | None = None  #: phase indices `(N,)`, -1 = unknown; None if no phase is known


class EqualLabels:
    """The positives of Zhang et al. 2024, section 2.1: equal class vectors **and** equal surgical phases weigh 1.

    An unknown phase (-1) equals only another unknown one, so where no phase is known the class vector alone decides.
    """

    def __call__(self, anchors: ImageLabels, others: ImageLabels) -> Tensor:
        """Return float weights `(A, N)`, 0 or 1, of N others for A anchors."""
        first, second = anchors.classes.float(), others.classes.float()
        if anchors.phase is not None and others.phase is not None:
            first = torch.cat([first, anchors.phase.float()[:, None]], dim=1)
            second = torch.cat([second, others.phase.float()[:, None]], dim=1)
        unequal_entries = torch.cdist(first, second, p=0)  # exact, and seven times faster than comparing (A, N, C)
        return (unequal_entries == 0).float()


class OverlappingLabels:
    """Soft positives: a power of the Jaccard overlap of two class vectors, (common classes / all classes of the two)^p.

    Two images without any class overlap fully. Most frames of an operation share most classes, so that the overlap
    itself would let nearly all attract each other alike; the power lets the small differences count. With an infinite
    power only equal vectors attract: `OverlappingLabels(math.inf, other_phase=0)` is `EqualLabels`.

    Args:
        sharpness: the power p, more than 0.
        other_phase: factor of the weight where the phases differ, 0 to 1; at 1 phases do not matter.
    """

    def __init__(self, sharpness: float = 8.0, other_phase: float = 1.0) -> None:
        if not (sharpness > 0 and 0 <= other_phase <= 1):
            raise ValueError(
                "OverlappingLabels: expected sharpness > 0 and other_phase from 0 to 1, "
                f"got {sharpness} and {other_phase}."
            )
        self.sharpness, self.other_phase = sharpness, other_phase

    def __call__(self, anchors: ImageLabels, others: ImageLabels) -> Tensor:
        """Return float weights `(A, N)` in [0, 1] of N others for A anchors."""
        first, second = anchors.classes.float(), others.classes.float()
        common = first @ second.T
        either = first.sum(dim=1)[:, None] + second.sum(dim=1) - common
        overlap = torch.where(either == 0, 1.0, common / either.clamp_min(1))
        weights = overlap.nan_to_num(0) ** self.sharpness  # NaN where a class vector is unknown
        if anchors.phase is None or others.phase is None:
            return weights
        return torch.where(anchors.phase[:, None] == others.phase, weights, weights * self.other_phase)
