"""All earlier networks as one teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lap_monai.checkpoints import IDENTITY, read_checkpoint
from lap_monai.checks import UserError
from lap_monai.networks.teacher import load_teacher


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


def load_merged_teacher(
    architecture: Callable[..., nn.Module],
    paths: Sequence[str | Path],
    identity: Mapping[str, Any],
    sigmoid: bool = False,
    device: str | torch.device = "cpu",
) -> MergedTeacher:
    """Return the networks of all earlier steps as one frozen teacher.

    Args:
        architecture: makes a plain network of `out_channels` channels.
        paths: `model.pt` of every earlier step, in order.
        identity: of the last of them: its `channels`, and names that must agree in all.
        sigmoid: as for `MergedTeacher`.
        device: where the networks go.

    Raises:
        UserError: if there is no path, a file is missing or damaged or of another stream, or the channels of a network
            are not those that the stream had then.
    """
    if not paths:
        raise UserError("No earlier_checkpoints: give the model.pt of every earlier step, in order.")
    networks = []
    for number, path in enumerate(paths):
        found = _Identity()
        read_checkpoint(path, {IDENTITY: found})
        channels, expected = found.state.get("channels", []), identity["channels"]
        complete = number < len(paths) - 1 or len(channels) == len(expected)
        if channels != expected[: len(channels)] or len(channels) < 2 or not complete:
            raise UserError(
                f"The checkpoint {str(path)!r} has the channels {channels}, this step's old ones are {expected}; give "
                "the model.pt of every earlier step of this stream, in order, as earlier_checkpoints."
            )
        network = architecture(out_channels=len(channels))
        networks.append(load_teacher(network, path, {**identity, "channels": channels}, device))
    return MergedTeacher(networks, sigmoid)


class _Identity:
    """What a checkpoint says of itself."""

    def __init__(self) -> None:
        self.state: Mapping[str, Any] = {}

    def state_dict(self) -> Mapping[str, Any]:
        return self.state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.state = state_dict
