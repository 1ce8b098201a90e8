"""Activations that are computed again instead of kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from lap_monai.checks import UserError

__all__ = ["checkpoint_blocks"]

Network = TypeVar("Network", bound=nn.Module)


def checkpoint_blocks(network: Network) -> Network:
    """Make every block of a network keep its input alone in training, and compute the rest anew in the backward pass.

    Same gradients, one more forward pass, and a fraction of the memory. The network is changed in place; weights, their
    names and what it computes stay, in evaluation it is what it was.

    Args:
        network: its children, and those of its `ModuleList`s and `Sequential`s, are the blocks.

    Returns:
        The same network.

    Raises:
        UserError: if the network has batch norm, whose running statistics would count every batch twice.
    """
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise UserError(
            f"{type(network).__name__} has batch norm, which cannot be computed twice; leave checkpointing out."
        )
    for block in _blocks(network):
        # A class of its own instead of a new `forward` on the object: copies of the block keep to their own weights.
        block.__class__ = type(f"Checkpointed{type(block).__name__}", (_Checkpointed, type(block)), {})
    return network


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    for child in network.children():
        if type(child) in (nn.ModuleList, nn.Sequential):
            yield from _blocks(child)
        elif next(child.children(), None) is not None:  # a lone layer has nothing but its input to keep
            yield child


class _Checkpointed(nn.Module):
    def forward(self, *inputs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*inputs)
        return checkpoint(super().forward, *inputs, use_reentrant=False)
