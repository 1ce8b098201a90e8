"""The loss of BYOL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lap_monai.losses.class_contrastive import contrast_features


class ByolLoss(nn.Module):
    """Predict the target network's embedding of one view from the other view (BYOL, Grill et al. 2020, eq. 2 and 3).

    `2 - 2 cos(prediction, target of the other view)`, averaged over the images, summed over both directions and over
    the scales. No gradient flows into the targets.
    """

    def forward(
        self,
        predictions: Sequence[Tensor],
        view_predictions: Sequence[Tensor],
        targets: Sequence[Tensor],
        view_targets: Sequence[Tensor],
    ) -> Tensor:
        """Return the loss, a scalar from 0 to 8 per scale; zero and connected to the graph for an empty batch.

        Args:
            predictions: from the first views, one `(B, D)` tensor per scale.
            view_predictions: from the second views of the same images.
            targets: the target network's embeddings of the first views.
            view_targets: those of the second views.

        Raises:
            ValueError: if the four do not have the same shapes.
        """
        given = (predictions, view_predictions, targets, view_targets)
        shapes = [[tuple(scale.shape) for scale in scales] for scales in given]
        if not shapes[0] or any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"ByolLoss: expected predictions and targets of equal shapes, got {shapes}.")
        with torch.autocast(predictions[0].device.type, enabled=False):
            return _distance(predictions, view_targets) + _distance(view_predictions, targets)


def _distance(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    cosine = (contrast_features(predictions) * contrast_features(targets).detach()).sum(dim=-1)  # (B, L)
    return (2 - 2 * cosine).sum() / max(len(cosine), 1)
