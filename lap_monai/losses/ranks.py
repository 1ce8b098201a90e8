"""The batch of all processes of a distributed training, seen from one of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class RankBatch:
    """Gathers what belongs to the images of every rank, in rank order and with gradients.

    Without `torch.distributed` (or with `gather=False`) the local batch is the whole batch and nothing is sent. Ranks
    may hold different numbers of images, none included; every rank must make the same calls in the same order.

    Args:
        count: number of images on this rank.
        device: where the gathered tensors lie.
        gather: False to stay on this rank.

    Attributes:
        world_size: number of ranks that take part.
        local: the rows of this rank in a gathered tensor.
    """

    def __init__(self, count: int, device: torch.device, gather: bool = True) -> None:
        together = gather and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.world_size = dist.get_world_size() if together else 1
        self._sizes = _sizes_of_ranks(count, device) if together else [count]
        first = sum(self._sizes[: dist.get_rank()]) if together else 0
        self.local = slice(first, first + count)

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the rows `(B_1 + B_2 + ..., ...)` of all ranks for the local rows `(B, ...)`."""
        if self.world_size == 1:
            return tensor
        return _GatherRows.apply(tensor, self._sizes)


def _sizes_of_ranks(count: int, device: torch.device) -> list[int]:
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([count], device=device))
    return torch.cat(sizes).tolist()


class _GatherRows(torch.autograd.Function):
    """`all_gather` of rows whose gradient is the sum over ranks.

    Own code because `torch.distributed.nn.functional.all_gather` is deprecated (torch 2.13) and its successor is
    private.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        # Collectives want equal shapes: short ranks are padded, and the padding is cut off again.
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.split(ctx.sizes)[dist.get_rank()], None
