"""The background of a network that has learned more classes, as an earlier network understands it."""

from __future__ import annotations

import torch
from torch import Tensor

from lap_monai.task_stream import TaskStep


def fold_into_background(log_p: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Add the probabilities of some channels to the background's (Cermelli et al. 2020, eq. 5 and 8).

    Args:
        log_p: log-probabilities `(B, C, ...)`, the background first.
        classes: the channels that count as background; may be none.

    Returns:
        `(B, C - len(classes), ...)`: the background, then the other channels in their order.
    """
    kept = [channel for channel in range(1, log_p.shape[1]) if channel not in classes]
    background = log_p[:, [0, *classes]].logsumexp(dim=1, keepdim=True)
    return torch.cat([background, log_p[:, kept]], dim=1)


def teacher_channels(step: TaskStep) -> tuple[int, ...]:
    """Return the channels of a step's network that the previous network has too: background and old classes."""
    return (0, *step.old_channels)


def check_teacher(logits: Tensor, teacher_logits: Tensor, step: TaskStep, name: str) -> None:
    """Compare the logits of a step's network and of its teacher with the step.

    Raises:
        ValueError: if either has another number of channels than the step says, or they differ in another axis.
    """
    _check(logits, step.num_channels, f"{name}: expected logits")
    expected = (logits.shape[0], len(teacher_channels(step)), *logits.shape[2:])
    if teacher_logits.shape != expected:
        raise ValueError(
            f"{name}: expected teacher logits of shape {tuple(expected)}, background and the old classes "
            f"{list(step.old)}, got {tuple(teacher_logits.shape)}."
        )


def _check(logits: Tensor, channels: int, expected: str) -> None:
    if logits.ndim < 3 or logits.shape[1] != channels:
        raise ValueError(f"{expected} of shape (B, {channels}, H, W), got {tuple(logits.shape)}.")
