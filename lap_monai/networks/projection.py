"""The multi-scale projection head of Zhang et al. 2024, section 2.2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lap_monai.checks import require_choice

#: How a projected map becomes a vector.
POOLINGS = ("max", "avg")


class MultiScaleProjectionHead(nn.Module):
    """MSPH: one vector per encoder scale, from a 1x1 convolution of the scale's feature map and a global pooling.

    The paper does not name the pooling. The average is the habit of classification networks, but after instance
    normalisation every channel of every image has the same average, so that the vectors of all images are nearly alike
    and nothing is left to contrast; the maximum asks whether something is anywhere in the frame.

    Args:
        in_channels: channels of each scale's feature map.
        embedding_dim: length D of every vector (paper: 128).
        pooling: `"max"` or `"avg"`.

    Raises:
        UserError: for an unknown pooling.

    Examples:
        >>> import torch
        >>> head = MultiScaleProjectionHead(in_channels=(8, 16), embedding_dim=4)
        >>> [tuple(z.shape) for z in head([torch.rand(2, 8, 6, 6), torch.rand(2, 16, 3, 3)])]
        [(2, 4), (2, 4)]
    """

    def __init__(self, in_channels: Sequence[int], embedding_dim: int = 128, pooling: str = "max") -> None:
        super().__init__()
        self.pooling = require_choice(pooling, POOLINGS, "pooling")
        self.projections = nn.ModuleList(
            nn.Conv2d(channels, embedding_dim, kernel_size=1, bias=False) for channels in in_channels
        )
        self.biases = nn.ParameterList(torch.zeros(embedding_dim) for _ in in_channels)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return one `(B, D)` embedding for each `(B, C_l, H_l, W_l)` feature map."""
        parts = zip(self.projections, self.biases, features, strict=True)
        # A bias is the same at every pixel. Added before the maximum it would round nearly equal pixels to equal ones,
        # which then share the gradient.
        return tuple(self._pooled(projection, feature) + bias for projection, bias, feature in parts)

    def _pooled(self, projection: nn.Module, feature: Tensor) -> Tensor:
        if self.pooling == "avg":
            # Averaging and a 1x1 convolution are both linear: averaging first gives the same vector, far cheaper.
            return projection(feature.mean(dim=(-2, -1), keepdim=True)).flatten(1)
        return projection(feature).amax(dim=(-2, -1))
