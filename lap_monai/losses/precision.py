"""Losses compute in float32 even where the network runs in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Return `tensor` as float32, or as float64 if it is that already."""
    return tensor if tensor.dtype is torch.float64 else tensor.float()
