"""A teacher answers, and nothing changes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lap_monai.checkpoints import write_checkpoint
from lap_monai.checks import UserError
from lap_monai.networks import load_teacher

SPACE = {"label_space": "cholecseg8k_zhang8"}


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "model.pt", {"model": network(0)}, SPACE)
    return tmp_path / "model.pt"


def test_has_the_weights_and_neither_learns_nor_drops_out(checkpoint):
    teacher = load_teacher(network(1), checkpoint, SPACE)
    image = torch.rand(2, 3, 4, 4)
    assert torch.equal(teacher(image), network(0).eval()(image))
    assert not teacher(image).requires_grad


def test_refuses_what_is_no_teacher_for_this_training(checkpoint):
    with pytest.raises(UserError, match="set teacher_checkpoint"):
        load_teacher(network(0), None)
    with pytest.raises(UserError, match="No checkpoint at"):
        load_teacher(network(0), checkpoint.with_name("none.pt"))
    with pytest.raises(UserError, match="trained with label_space 'cholecseg8k_zhang8'"):
        load_teacher(network(0), checkpoint, {"label_space": "endoscapes_7"})
    with pytest.raises(UserError, match="does not fit"):
        load_teacher(nn.Conv2d(3, 4, 1), checkpoint)
