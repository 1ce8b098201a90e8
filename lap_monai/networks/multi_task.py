"""The training network of Zhang et al. 2024: a segmentation network with projection and class heads beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

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
        portion: images whose activations are kept at once in training; None keeps all. Each portion is computed anew
            in the backward pass, once the loss over all images has given its gradient: gradient caching (Gao et al.
            2021, "Scaling deep contrastive learning batch size under memory limited setup"), a batch of any size in
            the memory of a portion for one more forward pass. Same gradients, to rounding.

    Raises:
        ValueError: if the encoder has fewer than `scales` scales, or portions are asked of a network with batch norm.
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
        portion: int | None = None,
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
        if portion is not None and (portion < 1 or self._needs_whole_batch):
            raise ValueError(
                f"MultiTaskSegmenter: expected a portion of at least 1 image and a network without batch norm, got "
                f"{portion} and a {type(backbone).__name__}."
            )
        self.portion = portion

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
        count = len(image)
        if self._needs_whole_batch:
            groups = [self._group(_joined(image, view), decode)]
        else:
            # Two passes instead of a slice of every skip connection: slicing a full-resolution map costs a copy forward
            # and a zero-filled map backward.
            decoded, others = image[:decode], _joined(image[decode:], view)
            groups = [*self._portions(decoded, decode=True), *self._portions(others, decode=False)]
        logits = _rejoined([group.logits for group in groups if group.logits is not None])
        if logits is None:
            logits = image.new_zeros((0, self.num_classes, *image.shape[2:]))
        every = self._finished(torch.cat(parts) for parts in zip(*(group.embeddings for group in groups), strict=True))
        predicted = self.heads["predictor"](every) if "predictor" in self.heads else ()
        embeddings = _rows(every, slice(count))
        return MultiTaskOutput(
            logits,
            embeddings,
            self.heads["classifier"](torch.cat(embeddings, dim=1)),
            view_embeddings=() if view is None else _rows(every, slice(count, None)),
            predictions=_rows(predicted, slice(count)),
            view_predictions=() if view is None else _rows(predicted, slice(count, None)),
            reconstruction=self._reconstruct([group.deepest for group in groups], count),
            log_variances=self._log_variances(),
        )

    def _portions(self, images: Tensor, decode: bool) -> list[_Group]:
        """Pass a group of images through the network, at once or in portions that are computed again backward."""
        if not len(images):
            return []
        if self.portion is None:
            return [self._group(images, len(images) if decode else 0)]
        return [
            checkpoint(self._group, part, len(part) if decode else 0, use_reentrant=False)
            for part in images.split(self.portion)
        ]

    def _group(self, images: Tensor, decode: int) -> _Group:
        """Encode images, decode the first `decode` of them and project all."""
        encode, run_decoder = encoder_decoder(self.backbone)
        features = encode(images)
        logits = None
        if decode:
            logits = run_decoder(
                list(features) if decode == len(images) else [feature[:decode] for feature in features]
            )
        embeddings = self.heads["projection"](features[-self.scales :])
        return _Group(logits, embeddings, features[-1] if "reconstruction" in self.heads else None)

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

    def _reconstruct(self, deepest: list[Tensor | None], count: int) -> Tensor | None:
        if "reconstruction" not in self.heads:
            return None
        return self.heads["reconstruction"](torch.cat([maps for maps in deepest if maps is not None])[:count])


class _Group(NamedTuple):
    """What a pass of some images leaves."""

    logits: Tensor | None  # of those that were decoded
    embeddings: Sequence[Tensor]  # one `(B, D)` tensor per scale
    deepest: Tensor | None  # the deepest feature maps, where they are reconstructed from


def _rejoined(parts: list[Tensor]) -> Tensor | None:
    return None if not parts else parts[0] if len(parts) == 1 else torch.cat(parts)


def _joined(image: Tensor, view: Tensor | None) -> Tensor:
    return image if view is None else torch.cat([image, view])


def _rows(scales: Sequence[Tensor], rows: slice) -> Scales:
    return tuple(z[rows] for z in scales)
