"""What a batch says of each of its frames, collated or decollated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Batch entry that names a frame.
FRAME_ID = "id"


def batch_values(batch: Any, key: str) -> list[Any]:
    """Return the entry `key` of every frame of a batch, strings or numbers; empty if the batch has none."""
    if isinstance(batch, Mapping):
        values = batch.get(key, [])
    elif isinstance(batch, list) and all(isinstance(item, Mapping) and key in item for item in batch):
        values = [item[key] for item in batch]
    else:
        return []
    if isinstance(values, Tensor):
        return values.tolist()
    return [value.item() if isinstance(value, Tensor) else value for value in values]


def class_ids(prediction: Tensor) -> Tensor:
    """Turn one frame's logits or one-hot channels `(C, H, W)` into class ids `(1, H, W)`; ids stay as they are."""
    if prediction.shape[0] == 1:
        return prediction.long()
    return prediction.argmax(0, keepdim=True)


def picture(image: Tensor) -> NDArray[np.uint8]:
    """Turn an image `(3, H, W)` into `uint8 (H, W, 3)` for the eye: values in [0, 1] scaled, any others stretched."""
    values = image.detach().float().cpu()
    if values.min() < 0 or values.max() > 1:
        values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-8)
    return (values * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
