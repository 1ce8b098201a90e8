"""What contrastive losses are made of: which pairs attract, how alike two features are, and the formula."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lap_monai.losses.pair_weights import EqualLabels, ImageLabels

#: Features shorter than this count as zero: no direction, hence similarity 0 to everything and no gradient.
SHORTEST = 1e-8


def positive_pairs(classes: Tensor, phase: Tensor | None = None) -> Tensor:
    """Return which images of a batch are positives of each other (Zhang et al. 2024, section 2.1; see `EqualLabels`).

    Args:
        classes: multi-hot class vectors `(B, C)`.
        phase: phase indices `(B,)`, -1 = unknown; or None, and the class vector alone decides.

    Returns:
        bool `(B, B)`, symmetric, False on the diagonal: an image is no positive of itself.
    """
    labels = ImageLabels(classes, phase)
    return EqualLabels()(labels, labels).bool().fill_diagonal_(False)


def unit_vectors(features: Tensor) -> Tensor:
    """Scale `features` `(..., D)` to length 1; a zero vector stays zero and receives no gradient."""
    length = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    # Not F.normalize: it divides a zero vector's gradient by 1e-12, so that one dead projection would end the training.
    return torch.where(length > SHORTEST, features / length.clamp_min(SHORTEST), 0.0)


def stack_scales(embeddings: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Stack L tensors `(B, D_l)` to `(B, L, D)`; zeros pad the narrower ones, which leaves a cosine as it is."""
    width = max(embedding.shape[1] for embedding in embeddings)
    return torch.stack([F.pad(embedding, (0, width - embedding.shape[1])) for embedding in embeddings], dim=1)


def self_excluding_similarity(anchors: Tensor, features: Tensor, temperature: float, first: int = 0) -> Tensor:
    """Return the similarities of unit vectors divided by the temperature, at every scale.

    Args:
        anchors: `(A, L, D)`, rows of `features` from row `first` on.
        features: `(N, L, D)`.
        temperature: tau.
        first: where the anchors begin among the features.

    Returns:
        `(L, A, N)`; an anchor's similarity to itself is the lowest number instead, without gradient, so that no softmax
        over the row sees it.
    """
    similarity = (anchors / temperature).transpose(0, 1) @ features.permute(1, 2, 0)
    # Not -inf, whose gradient is NaN for an anchor alone in the batch; half the lowest, so that sums stay finite.
    similarity.diagonal(offset=first, dim1=1, dim2=2).fill_(torch.finfo(similarity.dtype).min / 2)
    return similarity


def attraction_loss(similarity: Tensor, weights: Tensor) -> Tensor:
    """Return the loss of each anchor (Zhang et al. 2024, eq. 3: the average over the positives is outside the log).

    For anchor i: `-sum_j w_ij / (sum_j w_ij) * log(exp(s_ij) / sum_k exp(s_ik))`.

    Args:
        similarity: similarities divided by the temperature, `(..., A, N)`: A anchors against N features. A feature that
            an anchor must not see has a similarity of the lowest order, as `self_excluding_similarity` sets it.
        weights: how much each pair attracts, `(A, N)`, not negative.

    Returns:
        `(..., A)`; 0, without gradient, for an anchor that no feature attracts.
    """
    share = weights / weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    return -(similarity.log_softmax(dim=-1) * share).sum(dim=-1)
