"""Softmax losses under partial labels: what is not annotated is background or any unannotated class, together."""

from __future__ import annotations

from torch import Tensor

from lap_monai.losses.pixel_scores import PixelScores, pixel_scores
from lap_monai.losses.segmentation import SegmentationLoss
from lap_monai.task_stream import Knowledge


class MarginalSegmentationLoss(SegmentationLoss):
    """`SegmentationLoss` of frames that are annotated in part: 0 in the label is background *or* any unknown class.

    Per image, the probabilities of background and of all classes that are `UNKNOWN` in it are added up to one (Fang and
    Yan 2020; Shi et al. 2021, "Marginal loss and exclusion loss"); the Dice and the focal term then see that sum and
    the known classes only. Where a pixel carries a class all others are known not to be there, so an unknown class is
    pushed down on the pixels of annotated ones, and left alone elsewhere.

    With `gamma=0` the focal term is the marginal cross-entropy; with all old classes unknown that is the unbiased
    cross-entropy of MiB (Cermelli et al. 2020, eq. 3). With all classes known the loss is `SegmentationLoss`. An image
    of which nothing is known has no gradient, and loss 0 up to `eps`.

    The arguments are those of `SegmentationLoss`; a weight of 0 leaves the other term alone.
    """

    head = "softmax"

    def forward(self, logits: Tensor, label: Tensor, knowledge: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; zero and connected to the graph if nothing is known.

        Args:
            logits: scores before the softmax, `(M, C, H, W)`; M may be 0.
            label: channel numbers `(M, 1, H, W)`, integers; `ignore_index` where a pixel does not count.
            knowledge: what the labels say of each channel, `(M, C)`, see `Knowledge`; None where all are known.

        Raises:
            ValueError: if the shapes do not fit together, or (on a CPU) a label is no channel of the logits.
        """
        scores = pixel_scores(logits, label, self.ignore_index, type(self).__name__)
        if knowledge is not None:
            scores = fold_unknown(scores, knowledge)
        return self.dice_weight * self.dice.of_scores(scores) + self.focal_weight * self.focal.of_scores(scores)


def fold_unknown(scores: PixelScores, knowledge: Tensor) -> PixelScores:
    """Add the probabilities of each image's unknown classes to its background's, and take the classes out.

    Args:
        scores: of M images.
        knowledge: `(M, C)`, see `Knowledge`; the entry of the background is not read.

    Returns:
        Scores of the same shapes; an unknown class has log-probability -inf, and no gradient.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if knowledge.shape != scores.log_p.shape[:2]:
        raise ValueError(
            f"fold_unknown: expected knowledge of shape (M, C) = {tuple(scores.log_p.shape[:2])}, "
            f"got {tuple(knowledge.shape)}."
        )
    known = (knowledge != Knowledge.UNKNOWN).to(scores.log_p.device)
    folded = known.clone()
    folded[:, 0] = False
    background = scores.log_p.masked_fill(folded[:, :, None], -float("inf")).logsumexp(dim=1)
    background = background.clamp_max(0)  # rounding
    known[:, 0] = True
    log_p = scores.log_p.masked_fill(~known[:, :, None], -float("inf"))
    log_p[:, 0] = background
    unlabelled = scores.valid & (scores.label == 0)
    return scores._replace(log_p=log_p, log_p_true=background.where(unlabelled, scores.log_p_true))
