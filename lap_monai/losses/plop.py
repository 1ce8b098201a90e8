"""Pseudo-labels for the background of a new step's frames, where the previous network is surer than usual."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lap_monai.keys import IGNORE_INDEX
from lap_monai.losses.entropy_medians import prediction_entropy
from lap_monai.losses.folding import check_teacher
from lap_monai.losses.partial_marginal import fold_unknown
from lap_monai.losses.pixel_scores import mean_over_images, pixel_scores
from lap_monai.task_stream import Knowledge, TaskStep


class PseudoLabelLoss(nn.Module):
    """Cross-entropy with labels that the previous network completes (PLOP, Douillard et al. 2021, section 3.3).

    Where the label map has a new class, that counts. Elsewhere the teacher's class counts, background or old, if the
    entropy of its prediction is at most the class's threshold, and nothing does otherwise. Each image's loss is
    multiplied by the share of its unlabelled pixels that got a label (the adaptive factor nu).

    Deviation: the teacher's background may be a new class that this image's labels say nothing of, so there the
    probabilities of the two count together. Where every new class is drawn, as in PLOP's data, that is PLOP.

    Args:
        step: the step that the student learns.
    """

    head = "softmax"

    def __init__(self, step: TaskStep) -> None:
        super().__init__()
        self.step = step

    def forward(
        self,
        logits: Tensor,
        label: Tensor,
        teacher_logits: Tensor,
        thresholds: Tensor,
        knowledge: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar; zero and connected to the graph if no pixel is labelled.

        Args:
            logits: the student's, `(B, C, H, W)` in the channels of the step.
            label: channel numbers `(B, 1, H, W)`, 255 = ignore.
            teacher_logits: the previous network's, `(B, 1 + old, H, W)`.
            thresholds: greatest entropy of a pseudo-label for each teacher channel, `(1 + old,)`; see `EntropyMedians`.
            knowledge: `(B, C)` of `Knowledge`; an old class that is known to be absent is no pseudo-label. None if
                nothing is known of the old classes, and all new ones are drawn.

        Raises:
            ValueError: if the shapes do not fit together.
        """
        check_teacher(logits, teacher_logits, self.step, type(self).__name__)
        completed, share = confident_labels(label, teacher_logits, thresholds, knowledge)
        scores = pixel_scores(logits, completed, IGNORE_INDEX, type(self).__name__)
        if knowledge is not None:
            asked_of_nobody = knowledge.clone()
            asked_of_nobody[:, list(self.step.old_channels)] = Knowledge.MASK  # the teacher has spoken
            scores = fold_unknown(scores, asked_of_nobody)
        # All pixels in the denominator, as in eq. 6: what is not labelled weighs like a pixel learned already.
        per_image = -scores.log_p_true.sum(dim=1) / max(scores.valid.shape[1], 1)
        return mean_over_images(share * per_image)


def confident_labels(
    label: Tensor, teacher_logits: Tensor, thresholds: Tensor, knowledge: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Complete label maps by a teacher's confident predictions.

    Args:
        label: channel numbers `(B, 1, H, W)`, 255 = ignore; 0 where the teacher is asked.
        teacher_logits: `(B, K, H, W)`.
        thresholds: greatest entropy for each teacher channel, `(K,)`.
        knowledge: `(B, C)` of `Knowledge`, C >= K, or None.

    Returns:
        The completed labels, 255 where nobody is sure, and the share `(B,)` of the asked pixels that got one (1 if none
        was asked).
    """
    predicted = teacher_logits.argmax(dim=1, keepdim=True)
    sure = prediction_entropy(teacher_logits)[:, None] <= thresholds.to(teacher_logits.device)[predicted]
    if knowledge is not None:
        known = knowledge[:, : teacher_logits.shape[1]] != Knowledge.UNKNOWN
        known = torch.cat([torch.zeros_like(known[:, :1]), known[:, 1:]], dim=1)  # background contradicts nothing
        contradicted = known.gather(1, predicted.flatten(1)).reshape(predicted.shape)
        sure = sure & ~contradicted
    asked = label == 0
    pseudo = torch.where(sure, predicted, IGNORE_INDEX)
    completed = torch.where(asked, pseudo, label.long())
    count = asked.flatten(1).sum(dim=1)
    share = (asked & sure).flatten(1).sum(dim=1) / count.clamp_min(1)
    return completed, torch.where(count > 0, share, 1.0)
