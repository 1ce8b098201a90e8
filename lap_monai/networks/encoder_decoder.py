"""One view of the MONAI segmentation networks that have an encoder and a decoder: `encode`, then `decode`.

Multi-task training needs the two halves apart: every image is encoded, only those with a mask are decoded, and heads
read the encoder's scales. A further network is one `register` call away::

    @encoder_decoder.register
    def _(network: MyNet) -> EncoderDecoder:
        return EncoderDecoder(encode=network.stem, decode=network.head)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import NamedTuple

import torch
from monai.networks.nets import BasicUNet, FlexibleUNet, SegResNet
from torch import Tensor, nn


class EncoderDecoder(NamedTuple):
    """The halves of a network, sharing its weights: `decode(encode(image))` equals `network(image)`."""

    #: image `(B, C, H, W)` → feature maps, finest first
    encode: Callable[[Tensor], Sequence[Tensor]]
    #: those feature maps → logits `(B, K, H, W)`
    decode: Callable[[Sequence[Tensor]], Tensor]


@singledispatch
def encoder_decoder(network: nn.Module) -> EncoderDecoder:
    """Return the halves of `network`.

    Raises:
        TypeError: if nobody has registered how a network of this class is split.
    """
    raise TypeError(
        f"encoder_decoder: no rule splits a {type(network).__name__} into encoder and decoder. Use BasicUNet, "
        "SegResNet or FlexibleUNet, or register the class with lap_monai.networks.encoder_decoder.register."
    )


@encoder_decoder.register
def _(network: BasicUNet) -> EncoderDecoder:
    def encode(image: Tensor) -> list[Tensor]:
        features = [network.conv_0(image)]
        for down in (network.down_1, network.down_2, network.down_3, network.down_4):
            features.append(down(features[-1]))
        return features

    def decode(features: Sequence[Tensor]) -> Tensor:
        *skips, x = features
        for up in (network.upcat_4, network.upcat_3, network.upcat_2, network.upcat_1):
            x = up(x, skips.pop())
        return network.final_conv(x)

    return EncoderDecoder(encode, decode)


@encoder_decoder.register
def _(network: SegResNet) -> EncoderDecoder:
    def encode(image: Tensor) -> Sequence[Tensor]:
        # `network.encode` also returns the deepest map on its own; it is the last one of the list.
        return network.encode(image)[1]

    def decode(features: Sequence[Tensor]) -> Tensor:
        return network.decode(features[-1], list(reversed(features)))

    return EncoderDecoder(encode, decode)


@encoder_decoder.register
def _(network: FlexibleUNet) -> EncoderDecoder:
    def decode(features: Sequence[Tensor]) -> Tensor:
        return network.segmentation_head(network.decoder(features, network.skip_connect))

    return EncoderDecoder(network.encoder, decode)


def blank_image(network: nn.Module, spatial_size: int = 64) -> Tensor:
    """Return one black image `(1, C, spatial_size, spatial_size)` that `network` takes."""
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    return first.weight.new_zeros(1, first.in_channels * first.groups, spatial_size, spatial_size)


def encoder_shapes(network: nn.Module, spatial_size: int = 64) -> tuple[tuple[int, int], ...]:
    """Return channels and stride (pixels of the image per pixel of the map) of each encoder scale, finest first.

    Found by encoding one black image.

    Args:
        network: a network that `encoder_decoder` can split.
        spatial_size: edge of the black image in pixels; a multiple of the network's total stride.
    """
    was_training = network.training
    network.eval()  # so that batch statistics stay as they are
    try:
        with torch.no_grad():
            features = encoder_decoder(network).encode(blank_image(network, spatial_size))
            return tuple((feature.shape[1], spatial_size // feature.shape[-1]) for feature in features)
    finally:
        network.train(was_training)


def encoder_channels(network: nn.Module, spatial_size: int = 64) -> tuple[int, ...]:
    """Return the channel count of each encoder scale, finest first, as `encoder_shapes` finds it."""
    return tuple(channels for channels, _ in encoder_shapes(network, spatial_size))
