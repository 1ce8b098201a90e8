"""NT-Xent, the loss of SimCLR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lap_monai.losses.class_contrastive import ClassContrastiveLoss


class NTXentLoss(nn.Module):
    """Pull together the two views of each image, at every scale (SimCLR, Chen et al. 2020, eq. 1).

    Each of the 2B views is an anchor, its positive is the other view of the same image, all other views are negatives:
    the class-wise contrast in which every image is a class of its own. Averaged over the views, summed over the scales.

    Args:
        temperature: tau, more than 0.
        gather: False to contrast the images of each rank of a distributed training on their own.
    """

    def __init__(self, temperature: float = 0.07, gather: bool = True) -> None:
        super().__init__()
        self.contrast = ClassContrastiveLoss(temperature, gather=gather)

    def forward(self, embeddings: Tensor | Sequence[Tensor], view_embeddings: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the loss, a scalar; zero and connected to the graph for an empty batch.

        Args:
            embeddings: of the first views, one `(B, D)` tensor or one per scale.
            view_embeddings: of the second views of the same images, in the same order and shapes.

        Raises:
            ValueError: if there are not as many second views as first ones.
        """
        first, second = _as_list(embeddings), _as_list(view_embeddings)
        if [scale.shape for scale in first] != [scale.shape for scale in second]:
            raise ValueError(
                f"NTXentLoss: expected two views of equal shapes, got {[tuple(scale.shape) for scale in first]} "
                f"and {[tuple(scale.shape) for scale in second]}; a loader with lap_monai.data.TwoViews makes both."
            )
        both = [torch.cat(pair) for pair in zip(first, second, strict=True)]
        return self.contrast(both, _image_numbers(first[0]).repeat(2, 1))


def _image_numbers(scale: Tensor) -> Tensor:
    """Number the images `(B, 2)`: rank and place, so that images of two ranks differ."""
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    place = torch.arange(len(scale), device=scale.device)
    return torch.stack([torch.full_like(place, rank), place], dim=1)


def _as_list(embeddings: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [embeddings] if isinstance(embeddings, Tensor) else list(embeddings)
