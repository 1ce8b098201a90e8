"""Engines small enough to run in milliseconds."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from torch.utils.data import DataLoader

from lap_monai.handlers import SegmentationScores
from lap_monai.handlers.loss_injector import LossInjector

CLASSES = 7


@pytest.fixture
def tiny_frames() -> list[dict]:
    """Eight random frames of 8x8 pixels in the space `endoscapes_7`; nobody holds a tool."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.rand(3, 8, 8, generator=generator),
            "label": torch.randint(CLASSES - 1, (1, 8, 8), generator=generator).to(torch.uint8),
            "video": f"v{i // 2}",
            "id": f"v{i // 2}_{i}",
        }
        for i in range(8)
    ]


def _enlarged(pixels: torch.Tensor, size: int) -> torch.Tensor:
    return pixels.repeat_interleave(size // 8, -1).repeat_interleave(size // 8, -2)


def _loss(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(prediction, label[:, 0].long())


@pytest.fixture
def make_evaluator(tiny_frames: list[dict]) -> Callable[..., SupervisedEvaluator]:
    """Make a stock evaluator of a one-layer network over the tiny frames."""

    def make(network: torch.nn.Module | None = None, size: int = 8, **options: object) -> SupervisedEvaluator:
        torch.manual_seed(0)
        frames = [item | {key: _enlarged(item[key], size) for key in ("image", "label")} for item in tiny_frames]
        return SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(frames, batch_size=3),
            network=network or torch.nn.Conv2d(3, CLASSES, 1),
            key_val_metric={"val_mean_iou": SegmentationScores("endoscapes_7", nsd_tolerance=1.0)},
            **options,
        )

    return make


@pytest.fixture
def make_trainer(tiny_frames: list[dict], make_evaluator: Callable) -> Callable[..., SupervisedTrainer]:
    """Make a stock trainer with an injected term `extra` and a validator under `trainer.validator`, run every epoch."""

    def make(epochs: int = 2, handlers: Callable[[SupervisedEvaluator], list] = lambda _: [], **options: object):
        torch.manual_seed(0)
        network = torch.nn.Conv2d(3, CLASSES, 1)
        validator = make_evaluator(network)
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(tiny_frames, batch_size=3),
            network=network,
            optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
            loss_function=_loss,
            decollate=False,
            train_handlers=[
                LossInjector("extra", lambda prediction: prediction.square().mean(), ["pred"], weight=0.5),
                ValidationHandler(interval=1, validator=validator, epoch_level=True),
                *handlers(validator),
            ],
            **options,
        )
        trainer.validator = validator
        return trainer

    return make


@pytest.fixture(autouse=True)
def _sigterm_as_it_was() -> Iterator[None]:
    """Undo what a run that a test abandons in the middle, as `kill -9` would, leaves in this process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
