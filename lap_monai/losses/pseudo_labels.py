"""Label maps that networks complete where they are confident."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lap_monai.keys import IGNORE_INDEX
from lap_monai.losses.precision import full_precision
from lap_monai.task_stream import Knowledge


def class_probabilities(logits: Tensor, sigmoid: bool = False) -> Tensor:
    """Return the probabilities of each channel of `logits` `(B, C, H, W)`, in float32 or float64."""
    scores = full_precision(logits)
    return scores.sigmoid() if sigmoid else scores.softmax(dim=1)


def complete_labels(
    label: Tensor,
    logits: Tensor,
    channels: Sequence[int],
    confidence: float = 0.7,
    sigmoid: bool = False,
    labelled: Tensor | None = None,
    knowledge: Tensor | None = None,
) -> Tensor:
    """Return label maps with the classes of which another network is confident (0.7: SSUL, Cha et al. 2021, eq. 3).

    Args:
        label: channel numbers of the step `(B, 1, H, W)`; 0 where that network is asked.
        logits: its answer, `(B, K, H, W)`, the background first.
        channels: the step's channel of each of its K channels.
        confidence: least probability of a class that is filled in, above 0.5.
        sigmoid: whether its channels are sigmoids of their own.
        labelled: bool `(B,)`; an image without labels (all 255), False here, is asked about everywhere. None if all
            have labels.
        knowledge: `(B, C)` of `Knowledge` in the step's channels; what an image's labels say of a class is not asked
            again. None if they say nothing.

    Returns:
        int64 `(B, 1, H, W)`.
    """
    targets = torch.as_tensor(channels, device=logits.device)
    p = class_probabilities(logits, sigmoid)[:, 1:]
    if knowledge is not None:
        p = p * (knowledge.to(p.device)[:, targets[1:]] == Knowledge.UNKNOWN)[:, :, None, None]
    asked = label == 0
    if labelled is not None:
        asked = asked | ((label == IGNORE_INDEX) & ~labelled[:, None, None, None])
    if not p.shape[1]:  # it knows the background alone
        return label.long()
    best, position = p.max(dim=1, keepdim=True)
    return torch.where(asked & (best >= confidence), targets[1:][position], label.long())
