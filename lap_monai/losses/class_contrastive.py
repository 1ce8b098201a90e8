"""Deep class-wise contrastive loss (DCL)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lap_monai.checks import require_choice
from lap_monai.losses.contrast import attraction_loss, self_excluding_similarity, stack_scales, unit_vectors
from lap_monai.losses.feature_memory import Remembered
from lap_monai.losses.pair_weights import EqualLabels, ImageLabels
from lap_monai.losses.precision import full_precision
from lap_monai.losses.ranks import RankBatch

#: How strongly each of N images attracts each of A anchors: labels of both → weights `(A, N)`.
PairWeights = Callable[[ImageLabels, ImageLabels], Tensor]


class ClassContrastiveLoss(nn.Module):
    """Pull together images with the same classes and the same phase, at every scale (Zhang et al. 2024, eq. 3 and 4).

    The similarity is the cosine; the loss of an anchor is averaged over its positives and summed over the scales.
    Images without a positive are no anchors (eq. 4 would divide by zero), but stay negatives of the others.

    In a distributed training the images of all ranks are contrasted, and each rank returns its share, scaled such that
    the averaging of gradients by DistributedDataParallel gives the gradient of one process with the whole batch; the
    mean of the ranks' values is that process's loss.

    Deviation: eq. 4 sums over the anchors (`reduction="sum"`); the default averages over the anchors that have a
    positive, so that the weight of the term does not depend on the batch size.

    Args:
        temperature: tau, more than 0; the paper uses 0.07.
        reduction: `"mean"` or `"sum"` over the anchors.
        gather: False to contrast the images of each rank on their own.
        positives: which images attract each other, and how strongly; the paper's `EqualLabels` by default.

    Examples:
        >>> loss = ClassContrastiveLoss()
        >>> embeddings = [torch.randn(6, 128) for _ in range(3)]
        >>> classes = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [1, 1]])
        >>> loss(embeddings, classes).shape
        torch.Size([])
    """

    def __init__(
        self,
        temperature: float = 0.07,
        reduction: str = "mean",
        gather: bool = True,
        positives: PairWeights | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"ClassContrastiveLoss: expected a temperature > 0, got {temperature}.")
        self.temperature = temperature
        self.reduction = require_choice(reduction, ("mean", "sum"), "reduction of ClassContrastiveLoss")
        self.gather = gather
        self.positives = positives or EqualLabels()

    def forward(
        self,
        embeddings: Tensor | Sequence[Tensor],
        classes: Tensor,
        phase: Tensor | None = None,
        memory: Remembered | None = None,
    ) -> Tensor:
        """Return the loss, a scalar; zero and connected to the graph if no image has a positive.

        Args:
            embeddings: one `(B, D)` tensor, or one per scale (D may differ).
            classes: multi-hot class vectors `(B, C)`.
            phase: phase indices `(B,)`, -1 = unknown; None if no phase is known.
            memory: images of earlier batches, the same on all ranks, which the anchors see beside those of the batch;
                `None` while there are none.

        Raises:
            ValueError: if the shapes do not fit together.
        """
        scales = [embeddings] if isinstance(embeddings, Tensor) else list(embeddings)
        _check_shapes(scales, classes, phase)
        with torch.autocast(classes.device.type, enabled=False):  # the products of embeddings stay in float32
            anchors = contrast_features(scales)  # (A, L, D)
            batch = RankBatch(len(anchors), anchors.device, self.gather)
            features = batch.gather(anchors)  # (N, L, D)
            labels = _gathered_labels(batch, classes, phase)
            weights = _pair_weights(labels, memory, self.positives).to(anchors)  # (N, N + K)
            if memory is not None:
                features = torch.cat([features, memory.features.to(features)])
            similarity = self_excluding_similarity(anchors, features, self.temperature, batch.local.start)
            total = attraction_loss(similarity, weights[batch.local]).sum()
            if self.reduction == "mean":
                total = total / (weights.sum(dim=1) > 0).sum().clamp_min(1)
            return total * batch.world_size


def contrast_features(embeddings: Sequence[Tensor]) -> Tensor:
    """Return what is contrasted and remembered: the unit vectors `(B, L, D)` of L embeddings `(B, D)`, in float32."""
    return unit_vectors(full_precision(stack_scales(list(embeddings))))


def share_without_positive(
    classes: Tensor,
    phase: Tensor | None = None,
    memory: Remembered | None = None,
    positives: PairWeights | None = None,
    gather: bool = True,
) -> Tensor:
    """Return the share of images, 0 to 1, that have no positive: those that `ClassContrastiveLoss` skips as anchors.

    Args:
        classes: multi-hot class vectors `(B, C)`.
        phase: phase indices `(B,)` or None, as for the loss.
        memory: images of earlier batches, as for the loss.
        positives: as for the loss.
        gather: count over all ranks of a distributed training, as the loss does.
    """
    batch = RankBatch(len(classes), classes.device, gather)
    weights = _pair_weights(_gathered_labels(batch, classes, phase), memory, positives or EqualLabels())
    return (weights.sum(dim=1) == 0).sum() / max(len(weights), 1)


def _gathered_labels(batch: RankBatch, classes: Tensor, phase: Tensor | None) -> ImageLabels:
    return ImageLabels(batch.gather(classes), None if phase is None else batch.gather(phase))


def _pair_weights(labels: ImageLabels, memory: Remembered | None, positives: PairWeights) -> Tensor:
    """Weights of the batch's N images and the K remembered ones for the N as anchors; an image is none of its own."""
    weights = positives(labels, labels).fill_diagonal_(0)
    return weights if memory is None else torch.cat([weights, positives(labels, memory.labels)], dim=1)


def _check_shapes(scales: list[Tensor], classes: Tensor, phase: Tensor | None) -> None:
    name = "ClassContrastiveLoss"
    if classes.ndim != 2:
        raise ValueError(f"{name}: expected classes of shape (B, C), got {tuple(classes.shape)}.")
    if not scales:
        raise ValueError(f"{name}: expected at least one tensor of embeddings, got none.")
    count = len(classes)
    for scale in scales:
        if scale.ndim != 2 or len(scale) != count:
            raise ValueError(f"{name}: expected embeddings of shape (B={count}, D), got {tuple(scale.shape)}.")
    if phase is not None and phase.shape != (count,):
        raise ValueError(f"{name}: expected phase of shape (B={count},), got {tuple(phase.shape)}.")
