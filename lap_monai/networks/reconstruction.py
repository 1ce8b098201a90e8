"""The head of masked-image pre-training."""

from __future__ import annotations

from torch import Tensor, nn


class ReconstructionHead(nn.Module):
    """Pixels from one feature map, by a 1x1 convolution and a pixel shuffle (SimMIM, Xie et al. 2022, section 3.4).

    So light that the encoder has to do the work, and without skip connections, by which the pixels would come along.

    Args:
        in_channels: of the feature map.
        stride: pixels of the image per pixel of the feature map, in both directions.
        out_channels: of the image.
    """

    def __init__(self, in_channels: int, stride: int, out_channels: int = 3) -> None:
        super().__init__()
        self.to_pixels = nn.Sequential(
            nn.Conv2d(in_channels, out_channels * stride**2, kernel_size=1), nn.PixelShuffle(stride)
        )

    def forward(self, feature: Tensor) -> Tensor:
        """Return `(B, out_channels, H * stride, W * stride)` for a feature map `(B, in_channels, H, W)`."""
        return self.to_pixels(feature)
