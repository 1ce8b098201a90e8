"""What earlier networks know, carried over on real and on synthetic images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lap_monai.keys import IGNORE_INDEX
from lap_monai.losses.folding import check_teacher, fold_into_background
from lap_monai.losses.pixel_scores import mean_over_images
from lap_monai.losses.precision import full_precision
from lap_monai.task_stream import Knowledge, TaskStep

_IMPOSSIBLE = -1e4  # a logit whose probability is 0, and that 0 can be multiplied with


class ReplayDistillationLoss(nn.Module):
    """Soft targets of the teacher and of the expert for the new classes.

    Our reading of Zhao et al. 2025 (the equations were not at hand), rows A4 and A5 of `docs/incremental_methods.md`.
    The teacher is the previous network, the expert one trained on this step's data alone.

    - Where the expert was asked, teacher and expert are merged, see `merge_by_odds`.
    - Elsewhere the student's background and new classes together are the teacher's background, as in
      `UnbiasedDistillationLoss`.
    - Nobody is believed against the labels: a pixel that carries a class does not count, and of the classes that are
      drawn elsewhere in the image, or known to be absent, the share goes to what is left.

    Every image counts alike: mean over its pixels, then mean over the images, of the divergence of the student from
    that target.

    Args:
        step: the step that the student learns.
        hard: whether the target is the likeliest class alone instead of the distribution.
    """

    head = "softmax"

    def __init__(self, step: TaskStep, hard: bool = False) -> None:
        super().__init__()
        self.step = step
        self.hard = hard

    def forward(
        self,
        logits: Tensor,
        teacher_logits: Tensor,
        expert_logits: Tensor | None = None,
        ignore: Tensor | None = None,
        label: Tensor | None = None,
        knowledge: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar of at least 0.

        Args:
            logits: the student's, `(B, C, H, W)` in the channels of the step.
            teacher_logits: the previous network's, `(B, 1 + old, H, W)`.
            expert_logits: the expert's about the last E of the images, `(E, 1 + new, H, W)`; None without expert.
            ignore: `(B, 1, H, W)`, 255 at pixels that do not count; None if all do.
            label: channel numbers `(B, 1, H, W)`, 255 in images without labels; None to leave the labels out.
            knowledge: what the labels say of each channel, `(B, C)`, see `Knowledge`; None if they say nothing.

        Raises:
            ValueError: if the channels are not those of the step.
        """
        check_teacher(logits, teacher_logits, self.step, type(self).__name__)
        count = len(logits) - (0 if expert_logits is None else len(expert_logits))
        log_p = full_precision(logits).log_softmax(dim=1)
        teacher = _believed(teacher_logits, self.step.old_channels, knowledge).log_softmax(dim=1)
        parts = [self._per_image(fold_into_background(log_p[:count], self.step.new_channels), teacher[:count])]
        if expert_logits is not None:
            expert = _believed(expert_logits, self.step.new_channels, _last(knowledge, len(expert_logits)))
            parts.append(self._per_image(log_p[count:], merge_by_odds(teacher[count:], expert)))
        return _mean(torch.cat(parts), ignore, label)

    def _per_image(self, student: Tensor, target: Tensor) -> Tensor:
        """Return the divergence `(B, H, W)` of log-probabilities from those of the target, both `(B, K, H, W)`."""
        if self.hard:
            return F.nll_loss(student, target.argmax(dim=1), reduction="none")
        return (target.exp() * (target - student)).sum(dim=1)


class SigmoidReplayDistillationLoss(nn.Module):
    """The same for networks with one sigmoid a class: the teacher answers for old classes, the expert for new ones.

    Binary divergence per class, the mean over the channels of an image that somebody answers for; the background has no
    head of its own. Nothing need be folded: each class is a question of its own.

    Args:
        step: the step that the student learns.
        hard: whether targets are rounded to 0 and 1.
    """

    head = "sigmoid"

    def __init__(self, step: TaskStep, hard: bool = False) -> None:
        super().__init__()
        self.step = step
        self.hard = hard

    def forward(
        self,
        logits: Tensor,
        teacher_logits: Tensor,
        expert_logits: Tensor | None = None,
        ignore: Tensor | None = None,
        label: Tensor | None = None,
        knowledge: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar of at least 0; the arguments are those of `ReplayDistillationLoss`."""
        check_teacher(logits, teacher_logits, self.step, type(self).__name__)
        count = len(logits) - (0 if expert_logits is None else len(expert_logits))
        scores = full_precision(logits)
        teacher = _believed(teacher_logits, self.step.old_channels, knowledge)[:, 1:]
        old, new = list(self.step.old_channels), list(self.step.new_channels)
        parts = [self._per_pixel(scores[:count, old], teacher[:count])]
        if expert_logits is not None:
            about = _last(knowledge, len(expert_logits))
            expert = _believed(expert_logits, self.step.new_channels, about)[:, 1:]
            parts.append(self._per_pixel(scores[count:, old + new], torch.cat([teacher[count:], expert], dim=1)))
        return _mean(torch.cat(parts), ignore, label)

    def _per_pixel(self, student: Tensor, target: Tensor) -> Tensor:
        p = target.sigmoid()
        if self.hard:
            p = (p > 0.5).to(p.dtype)
        cross_entropy = F.binary_cross_entropy_with_logits(student, p, reduction="none")
        entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
        return (cross_entropy - entropy).sum(dim=1) / max(student.shape[1], 1)


def _believed(logits: Tensor, channels: Sequence[int], knowledge: Tensor | None) -> Tensor:
    """Return the answers `(B, 1 + K, H, W)` of a network of the background and K classes, without what labels rule out.

    Args:
        logits: of the network.
        channels: of its K classes in the step.
        knowledge: `(B, C)` in the channels of the step, see `Knowledge`; None if the labels say nothing.
    """
    answers = full_precision(logits.detach())
    if knowledge is None:
        return answers
    said = torch.zeros(answers.shape[:2], dtype=torch.bool, device=answers.device)
    said[:, 1:] = knowledge[:, list(channels)] != Knowledge.UNKNOWN
    return answers.masked_fill(said[:, :, None, None], _IMPOSSIBLE)


def _last(knowledge: Tensor | None, count: int) -> Tensor | None:
    return None if knowledge is None else knowledge[len(knowledge) - count :]


def _mean(pixels: Tensor, ignore: Tensor | None, label: Tensor | None) -> Tensor:
    """Return the mean over the pixels `(B, H, W)` that count of each image, then over the images."""
    counts = torch.ones_like(pixels, dtype=torch.bool) if ignore is None else ignore[:, 0] != IGNORE_INDEX
    if label is not None:
        counts = counts & ((label[:, 0] == 0) | (label[:, 0] == IGNORE_INDEX))
    return mean_over_images((pixels * counts).sum(dim=(1, 2)) / counts.sum(dim=(1, 2)).clamp_min(1))


def merge_by_odds(teacher_logits: Tensor, expert_logits: Tensor) -> Tensor:
    """Return what a teacher of old classes and an expert for new ones say together, each class against the background.

    The odds of an old class against the background are the teacher's, `p(o) / p(b) = t(o) / t(b)`, those of a new one
    the expert's. Both saw the other's structures unlabelled, as background, so neither has the last word: where the
    teacher leans to an old class and the expert is sure of a new one, the new one wins.

    Args:
        teacher_logits: background and old classes, `(B, 1 + old, H, W)`.
        expert_logits: background and new classes, `(B, 1 + new, H, W)`.

    Returns:
        Log-probabilities `(B, 1 + old + new, H, W)` in the channels of the step.
    """
    teacher, expert = full_precision(teacher_logits.detach()), full_precision(expert_logits.detach())
    background = torch.zeros_like(teacher[:, :1])
    odds = [background, teacher[:, 1:] - teacher[:, :1], expert[:, 1:] - expert[:, :1]]
    return torch.cat(odds, dim=1).log_softmax(dim=1)


def labelled_first(labelled: Tensor) -> int:
    """Return how many images have labels.

    Raises:
        ValueError: if one of them follows one without.
    """
    count = int(labelled.sum())
    if not bool(labelled[:count].all()):
        raise ValueError("expected the images with labels first, as MixedBatchSampler orders them.")
    return count
