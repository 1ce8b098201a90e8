"""The training network of an incremental step."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from lap_monai.networks.encoder_decoder import encoder_decoder
from lap_monai.networks.growing_head import classifier_axes


class IncrementalOutput(NamedTuple):
    """What `IncrementalSegmenter` returns in training, for B images."""

    logits: Tensor  #: `(B, K, H, W)`
    features: tuple[Tensor, ...] = ()  #: the encoder's maps, finest first
    embeddings: Tensor | None = None  #: `(B, D, H / stride, W / stride)`


class IncrementalSegmenter(nn.Module):
    """A segmentation network that, in training, also tells its encoder's features and embeds its pixels.

    In evaluation it *is* the plain network. `backbone` is what is deployed.

    Args:
        backbone: network from images `(B, C, H, W)` to logits `(B, K, H, W)`.
        features: whether the encoder's maps are returned, for a backbone that `encoder_decoder` can split.
        embedding_dim: D, length of the embeddings; None for none.
        stride: pixels of the image per embedding along each axis.
    """

    def __init__(
        self, backbone: nn.Module, features: bool = False, embedding_dim: int | None = None, stride: int = 4
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.features = features
        self.stride = stride
        self.heads = nn.ModuleDict()
        if embedding_dim is not None:
            # What the classifier reads, whatever the network: the input of the first layer of the classifier.
            name = next(iter(classifier_axes(backbone))).rpartition(".")[0]
            last = cast(nn.Conv2d, backbone.get_submodule(name))
            self._last_layer = [last]  # a list: not a submodule for the second time
            channels = last.in_channels
            self.heads["projection"] = nn.Sequential(
                nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, embedding_dim, 1)
            )

    def forward(self, image: Tensor) -> Tensor | IncrementalOutput:
        """Segment; in training also embed.

        Args:
            image: `(B, C, H, W)`; H and W are multiples of `stride`.

        Returns:
            Logits `(B, K, H, W)` in evaluation mode, an `IncrementalOutput` in training mode.
        """
        if not self.training:
            return self.backbone(image)
        if "projection" not in self.heads:
            return IncrementalOutput(*self._segment(image))
        seen: list[Tensor] = []
        hook = self._last_layer[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits, features = self._segment(image)
        finally:
            hook.remove()
        # Averages of cells, then the projection: embedding every pixel would cost more than segmenting it.
        factor = self.stride * seen[0].shape[-1] // image.shape[-1]
        cells = F.avg_pool2d(seen[0], factor) if factor > 1 else seen[0]
        return IncrementalOutput(logits, features, self.heads["projection"](cells))

    def _segment(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        if not self.features:
            return self.backbone(image), ()
        encode, decode = encoder_decoder(self.backbone)
        features = tuple(encode(image))
        return decode(list(features)), features
