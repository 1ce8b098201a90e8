"""Two nested states, such as those of checkpoints, compared bit by bit."""

from __future__ import annotations

from typing import Any

import torch


def differences(a: Any, b: Any, name: str = "") -> list[str]:
    """Where two states differ in any bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for key in {*a, *b} for d in differences(a.get(key), b.get(key), f"{name}/{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, pair in enumerate(zip(a, b, strict=True)) for d in differences(*pair, f"{name}/{i}")]
    equal = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if equal else [name]
