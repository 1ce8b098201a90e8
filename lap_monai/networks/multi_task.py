"""The training network of Zhang et al. 2024: a segmentation network with projection and class heads beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lap_monai.networks.encoder_decoder import encoder_decoder, encoder_shapes
from lap_monai.networks.prediction import MultiScalePredictor
from lap_monai.networks.projection import MultiScaleProjectionHead
from lap_monai.networks.reconstruction import ReconstructionHead

Scales = tuple[Tensor, ...]


class MultiTaskOutput(NamedTuple):
    """What `MultiTaskSegmenter` returns in training, for B images of which the first M are decoded.

    Each tuple holds one `(B, D)` tensor per projected scale, finest first; it is empty, and a tensor is None, where
    there is no second view or the network has no such head.
    """

    logits: Tensor  #: `(M, K, H, W)` segmentation logits
    embeddings: Scales  #: of the images
    class_logits: Tensor  #: `(B, K)` logits of "class k is in the image"
    view_embeddings: Scales = ()  #: of the images' second views
    predictions: Scales = ()  #: BYOL's predictor on `embeddings`
    view_predictions: Scales = ()  #: BYOL's predictor on `view_embeddings`
    reconstruction: Tensor | None = None  #: `(B, C, H, W)`, the images as the deepest scale knows them
    log_variances: Tensor | None = None  #: `(T,)`, learned uncertainties of T loss terms


class MultiTaskSegmenter(nn.Module):
    """Any splittable MONAI network, with the heads that class-wise contrast and image-level classification need.

    In training it encodes all images and decodes only the first `decode` of them; in evaluation it *is* the plain
    network. `backbone` is what is deployed: save, script or export `model.backbone`, and load it without this package.

    Args:
        backbone: network that maps `(B, C, H, W)` to logits `(B, K, H, W)` and that `encoder_decoder` can split.
        num_classes: K, the classes of the image-level head.
        scales: L, how many of the deepest encoder scales are projected (paper: 3).
        embedding_dim: D, length of each scale's vector (paper: 128).
        pooling: how the head pools a map, see `MultiScaleProjectionHead`.
        standardize: whether each entry of the embeddings is brought to mean 0 and variance 1 over the batch. Pooled
            maxima share a large mean, which hides the differences where nothing pushes embeddings apart (BYOL).
        predictor_dim: hidden width of BYOL's predictors; None for none.
        reconstruct: whether a `ReconstructionHead` sits on the deepest scale.
        log_variances: T, how many loss terms have a learned weight, see `UncertaintyWeightedLoss`.

    Raises:
        ValueError: if the encoder has fewer than `scales` scales.
        TypeError: if the backbone cannot be split.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        scales: int = 3,
        embedding_dim: int = 128,
        pooling: str = "max",
        standardize: bool = False,
        predictor_dim: int | None = None,
        reconstruct: bool = False,
        log_variances: int = 0,
    ) -> None:
        super().__init__()
        shapes = encoder_shapes(backbone)
        if not 1 <= scales <= len(shapes):
            raise ValueError(f"MultiTaskSegmenter: expected 1 to {len(shapes)} scales, got {scales}.")
        channels, strides = zip(*shapes, strict=True)
        self.backbone = backbone
        self.heads = nn.ModuleDict(
            {
                "projection": MultiScaleProjectionHead(channels[-scales:], embedding_dim, pooling),
                "classifier": nn.Linear(scales * embedding_dim, num_classes),
            }
        )
        if standardize:
            self.heads["standardize"] = nn.ModuleList(
                nn.BatchNorm1d(embedding_dim, affine=False) for _ in range(scales)
            )
        if predictor_dim is not None:
            self.heads["predictor"] = MultiScalePredictor(scales, embedding_dim, predictor_dim)
        if reconstruct:
            self.heads["reconstruction"] = ReconstructionHead(channels[-1], strides[-1])
        if log_variances:
            self.heads["log_variances"] = nn.ParameterList([torch.zeros(log_variances)])
        self.num_classes = num_classes
        self.scales = scales
        # Batch statistics tie the images of a batch together, so such an encoder must see all of them at once.
        self._needs_whole_batch = any(isinstance(module, _BatchNorm) for module in backbone.modules())

    def forward(self, image: Tensor, decode: int | None = None, view: Tensor | None = None) -> Tensor | MultiTaskOutput:
        """Segment; in training also embed and classify.

        Args:
            image: `(B, C, H, W)`, the images with masks first.
            decode: M, how many leading images are decoded in training; None decodes all.
            view: `(B, C, H, W)`, second views of the images, which are embedded and nothing else.

        Returns:
            Logits `(B, K, H, W)` in evaluation mode, a `MultiTaskOutput` in training mode.
        """
        if not self.training:
            return self.backbone(image)
        return self._multi_task(image, image.shape[0] if decode is None else decode, view)

    def _multi_task(self, image: Tensor, decode: int, view: Tensor | None) -> MultiTaskOutput:
        encode, run_decoder = encoder_decoder(self.backbone)
        count = len(image)
        groups: list[Sequence[Tensor]]  # each group's feature maps, the decoded group first
        if self._needs_whole_batch:
            features = encode(_joined(image, view))
            groups = [features]
            decodable = [feature[:decode] for feature in features]
        else:
            # Two passes instead of a slice of every skip connection: slicing a full-resolution map costs a copy forward
            # and a zero-filled map backward.
            parts = (image[:decode], _joined(image[decode:], view))
            groups = [encode(part) for part in parts if len(part)]
            decodable = list(groups[0])
        logits = run_decoder(decodable) if decode else image.new_zeros((0, self.num_classes, *image.shape[2:]))
        per_group = [self.heads["projection"](features[-self.scales :]) for features in groups]
        every = self._finished(torch.cat(parts) for parts in zip(*per_group, strict=True))
        predicted = self.heads["predictor"](every) if "predictor" in self.heads else ()
        embeddings = _rows(every, slice(count))
        return MultiTaskOutput(
            logits,
            embeddings,
            self.heads["classifier"](torch.cat(embeddings, dim=1)),
            view_embeddings=() if view is None else _rows(every, slice(count, None)),
            predictions=_rows(predicted, slice(count)),
            view_predictions=() if view is None else _rows(predicted, slice(count, None)),
            reconstruction=self._reconstruct(groups, count),
            log_variances=self._log_variances(),
        )

    def _finished(self, embeddings: Iterable[Tensor]) -> Scales:
        if "standardize" not in self.heads:
            return tuple(embeddings)
        norms = cast(nn.ModuleList, self.heads["standardize"])  # over all groups at once
        return tuple(norm(z) for norm, z in zip(norms, embeddings, strict=True))

    def _log_variances(self) -> Tensor | None:
        if "log_variances" not in self.heads:
            return None
        # A copy: a distributed training wants results of the forward pass, not the parameters themselves.
        return next(self.heads["log_variances"].parameters()).clone()

    def _reconstruct(self, groups: list[Sequence[Tensor]], count: int) -> Tensor | None:
        if "reconstruction" not in self.heads:
            return None
        return self.heads["reconstruction"](torch.cat([features[-1] for features in groups])[:count])


def _joined(image: Tensor, view: Tensor | None) -> Tensor:
    return image if view is None else torch.cat([image, view])


def _rows(scales: Sequence[Tensor], rows: slice) -> Scales:
    return tuple(z[rows] for z in scales)
