"""A batch, and one iteration of MONAI's trainer on it by the engine's own code: what the benchmarks of a step time."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import SupervisedTrainer
from torch import Tensor, nn


def mixed_batch(masked: int, label_only: int, size: tuple[int, int], classes: int) -> dict[str, Tensor]:
    """Return a random batch that begins with its masked images; groups of four share their labels."""
    count = masked + label_only
    groups = -(-count // 4)
    return {
        "image": torch.rand(count, 3, *size),
        "label": torch.randint(classes, (count, 1, *size), dtype=torch.uint8),
        "classes": torch.randint(2, (groups, classes)).float().repeat(4, 1)[:count],
        "phase": torch.zeros(count, dtype=torch.long),
        "has_mask": torch.arange(count) < masked,
    }


def one_batch_trainer(
    network: nn.Module, data: dict[str, Tensor], device: torch.device, **options: Any
) -> SupervisedTrainer:
    """Return a trainer whose epoch is the batch `data`; `options` are those of `SupervisedTrainer`."""
    return SupervisedTrainer(
        device=device,
        max_epochs=1,
        train_data_loader=[data],
        network=network.to(device),
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-4),
        decollate=False,
        amp=device.type == "cuda",
        **options,
    )


def step(engine: SupervisedTrainer, device: torch.device) -> None:
    """Run one iteration, without the bookkeeping of a new run."""
    engine.state.iteration = engine.state.epoch = 0
    engine.run()
    if device.type == "cuda":
        torch.cuda.synchronize()
