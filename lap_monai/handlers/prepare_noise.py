"""Noise and times of a diffusion training, the same for an image whatever process it is on."""

from __future__ import annotations

import ignite.distributed as idist
import torch
from monai.engines.utils import DiffusionPrepareBatch, VPredictionPrepareBatch
from torch import Tensor


class PrepareNoise(DiffusionPrepareBatch):
    """MONAI's `prepare_batch` for networks that predict the noise, drawing for the batch of all ranks.

    Every rank draws noise and times of the whole batch and keeps its rows, so that N processes learn what one process
    learns from the same batch. The ranks must draw from equal random states (`IterationSeed`) and hold equally many
    images, in the order of the ranks (`MixedBatchSampler`).
    """

    def get_noise(self, images: Tensor) -> Tensor:
        """Return standard normal noise `(B, C, H, W)` for the images of this rank."""
        shape = (len(images) * idist.get_world_size(), *images.shape[1:])
        return _own_rows(torch.randn(shape, dtype=images.dtype, device=images.device))

    def get_timesteps(self, images: Tensor) -> Tensor:
        """Return a time `(B,)`, uniform in 0 to `num_train_timesteps - 1`, for each image of this rank."""
        count = len(images) * idist.get_world_size()
        return _own_rows(torch.randint(0, self.num_train_timesteps, (count,), device=images.device))


class PrepareVelocity(PrepareNoise, VPredictionPrepareBatch):
    """As `PrepareNoise`, for networks that predict the velocity."""


def _own_rows(tensor: Tensor) -> Tensor:
    return tensor.chunk(idist.get_world_size())[idist.get_rank()]
