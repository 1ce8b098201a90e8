"""A trained network that only answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lap_monai.checkpoints import read_checkpoint
from lap_monai.checks import UserError


def load_teacher(
    network: nn.Module,
    path: str | Path | None,
    identity: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Return `network` with the weights of a checkpoint, in evaluation mode and without gradients.

    Args:
        network: a plain network of the checkpoint's shape; it is changed.
        path: a `model.pt`, `{"model": state dict}`; None, a config's default, is refused.
        identity: names that must agree with those in the file, such as the label space.
        device: where the network goes.

    Raises:
        UserError: if there is no path, or if the file is missing, damaged, of another identity or another network.
    """
    if path is None:
        raise UserError("No teacher: set teacher_checkpoint to the model.pt of the network to learn from.")
    read_checkpoint(path, {"model": network}, identity)
    return network.to(device).eval().requires_grad_(False)
