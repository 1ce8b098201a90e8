"""All earlier networks as one teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MergedTeacher(nn.Module):
    """Ask, for every class, the network of the step that brought it (row A4 of `docs/incremental_methods.md`).

    Each network of a stream knows the classes of its predecessor and a few more. The merged logits take of each network
    the channels that it was the first to have. With a softmax these are log-probabilities, and the background's is the
    last network's, whose background is nobody's class.

    Args:
        networks: the networks of the earlier steps, in order, each with more channels than the one before.
        sigmoid: whether channels are sigmoids of their own, so that logits are merged as they are.
    """

    def __init__(self, networks: Sequence[nn.Module], sigmoid: bool = False) -> None:
        super().__init__()
        if not networks:
            raise ValueError("MergedTeacher: expected at least one network.")
        self.networks = nn.ModuleList(networks)
        self.sigmoid = sigmoid
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(B, K, H, W)`, K the channels of the last network."""
        answers = [network(image) for network in self.networks]
        if not self.sigmoid:
            answers = [logits.float().log_softmax(dim=1) for logits in answers]
        parts, known = [answers[-1][:, :1]], 1
        for logits in answers:
            parts.append(logits[:, known:])
            known = max(known, logits.shape[1])
        return torch.cat(parts, dim=1)
