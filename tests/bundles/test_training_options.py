"""Overlays that change how a training runs and not what it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from lap_monai.files import read_json

MakeWorkflow = Callable[..., ConfigWorkflow]


@pytest.fixture(scope="module")
def usual(run: MakeWorkflow, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The only epoch of a training without any of them."""
    return epoch(run, tiny, tmp_path_factory.mktemp("usual"))


def epoch(run: MakeWorkflow, tiny: dict[str, Any], root: Path, *overlays: str) -> dict[str, float]:
    run(["train", "phantom", *overlays], root, **tiny | {"epochs": 1, "learning_rate": 1e-5})
    (row,) = read_json(root / "eval" / "history.json")
    return {key: value for key, value in row.items() if key != "seconds"}


@pytest.mark.parametrize(
    ("overlays", "tolerance"),
    [
        (["checkpointing"], 0),
        (["gradient_cache"], 1e-4),
        (["batch_augmentation"], 0.02),  # a grey level here and there
        (["batch_augmentation", "checkpointing", "gradient_cache"], 0.02),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_an_epoch_is_that_of_a_training_without(
    run: MakeWorkflow, tiny: dict[str, Any], usual: dict[str, float], tmp_path: Path, overlays: list[str], tolerance
) -> None:
    assert epoch(run, tiny, tmp_path, *overlays) == pytest.approx(usual, rel=tolerance, abs=0)
