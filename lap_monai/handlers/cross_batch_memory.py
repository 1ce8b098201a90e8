"""The features of earlier batches, at hand in every iteration."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor

from lap_monai.handlers.engine_values import engine_values
from lap_monai.keys import CLASSES, EMBEDDINGS, PHASE
from lap_monai.losses import FeatureMemory, RankBatch, contrast_features


class CrossBatchMemory:
    """Offer what a `FeatureMemory` holds as the loss input `memory`, and add the batch after the step.

    `memory` is None in the first iteration. Every rank of a distributed training remembers the batches of all ranks.
    The memory is part of the training's state: put this handler among the objects of `LastCheckpoint`.

    Args:
        size: how many images are remembered.
    """

    def __init__(self, size: int) -> None:
        self.memory = FeatureMemory(size)

    def attach(self, engine: Engine) -> None:
        """Recall after the forward pass of the trainer `engine`, remember after its step."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._recall)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._remember)

    def _recall(self, engine: Engine) -> None:
        state: Any = engine.state
        state.memory = self.memory.recall()

    @torch.no_grad()
    def _remember(self, engine: Engine) -> None:
        embeddings, classes, phase = engine_values(engine, (EMBEDDINGS, CLASSES, PHASE))
        features = contrast_features(embeddings)
        batch = RankBatch(len(features), features.device)
        self.memory.remember(batch.gather(features), batch.gather(classes), batch.gather(phase))

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is remembered."""
        return self.memory.state_dict()

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Remember what a `state_dict` holds."""
        self.memory.load_state_dict(state_dict)
