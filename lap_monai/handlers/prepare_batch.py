"""Hand a mixed batch of masked and label-only frames to a stock MONAI trainer."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines.utils import PrepareBatch
from torch import Tensor

from lap_monai.keys import AUGMENTATIONS, HAS_MASK, IMAGE, LABEL, VIEW
from lap_monai.transforms import augment_images, augment_labels


class PrepareMixedBatch(PrepareBatch):
    """A trainer's `prepare_batch` for batches whose masked frames come first (as `MixedBatchSampler` orders them).

    The labels of the masked frames are the targets, and the network is told how many leading images to decode. Second
    views (`lap_monai.data.TwoViews`) go to the network beside the images. Whole frames that bring their augmentations
    along (`lap_monai.data.FrameBatches`) are augmented here, on the device.
    """

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        """Return images `(B, 3, H, W)`, labels `(M, 1, H, W)`, no further arguments and `{"decode": M}`, with a
        `"view"` `(B, 3, H, W)` where the batch has one.

        Raises:
            ValueError: if a masked frame follows one without a mask.
        """
        has_mask = batchdata[HAS_MASK]
        decode = int(has_mask.sum())
        if not bool(has_mask[:decode].all()):
            raise ValueError("PrepareMixedBatch: expected the frames with masks first; use MixedBatchSampler.")

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, non_blocking=non_blocking, **kwargs)

        options: dict[str, Any] = {"decode": decode}
        if VIEW in batchdata:
            options[VIEW] = moved(batchdata[VIEW])
        images, labels = moved(batchdata[IMAGE]), moved(batchdata[LABEL][:decode])
        if AUGMENTATIONS in batchdata:
            augmentations = batchdata[AUGMENTATIONS]
            images = augment_images(images, augmentations)
            labels = augment_labels(labels, augmentations[:decode]) if decode else labels
        return images, labels, (), options
