"""One network between two."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lap_monai.task_stream import TaskStep


def fusion_share(step: TaskStep) -> float:
    """Return the share of the new network, `sqrt(new / (new + old))` (EWF, Xiao et al. 2023, eq. 6)."""
    return math.sqrt(len(step.new) / len(step.seen))


def fuse_states(
    previous: Mapping[str, Tensor], current: Mapping[str, Tensor], axes: Mapping[str, int], share: float
) -> dict[str, Tensor]:
    """Return `share * current + (1 - share) * previous`; the rows of classes that are new stay as they are.

    Args:
        previous: state of the network of the step before.
        current: state of the network that was trained from it.
        axes: of the current network's classifier, see `classifier_axes`.
        share: weight of the current network, 0 to 1.

    Raises:
        ValueError: if the states are not of two steps of one network.
    """
    if previous.keys() != current.keys():
        raise ValueError("the two networks are of different architectures; fuse steps of one stream.")
    fused = {}
    for name, value in current.items():
        before = previous[name].to(value.device)
        result = value.clone()
        rows = result.movedim(axes.get(name, 0), 0) if result.ndim else result
        old = before.movedim(axes.get(name, 0), 0) if before.ndim else before
        if name in axes:
            rows = rows[: len(old)]
        if rows.shape != old.shape:
            raise ValueError(f"{name} is {tuple(before.shape)} in the previous network and {tuple(value.shape)} now.")
        if torch.is_floating_point(result):  # counters stay
            rows.copy_(share * rows + (1 - share) * old)
        fused[name] = result
    return fused
