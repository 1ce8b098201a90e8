"""A U-Net whose encoder knows ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import FlexibleUNet
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE

from lap_monai.networks.efficientnet_lite import NAME, EfficientNetLiteEncoder

FLEXUNET_BACKBONE.register_class(EfficientNetLiteEncoder)


class EfficientNetLiteUNet(FlexibleUNet):
    """MONAI's `FlexibleUNet` on an `EfficientNetLiteEncoder`: RGB in [0, 1] in, logits out.

    Args:
        out_channels: classes.
        pretrained: begin with ImageNet weights; False where a checkpoint is loaded anyway.
        decoder_channels: of the decoder's maps at strides 16, 8, 4, 2 and 1.
    """

    def __init__(
        self,
        out_channels: int,
        pretrained: bool = True,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    ) -> None:
        super().__init__(
            in_channels=3,
            out_channels=out_channels,
            backbone=NAME,
            pretrained=pretrained,
            decoder_channels=tuple(decoder_channels),
        )
