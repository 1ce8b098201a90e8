"""Features of earlier images and of earlier steps, at hand in every iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor

from lap_monai.checkpoints import read_checkpoint, write_checkpoint
from lap_monai.handlers.engine_values import engine_values
from lap_monai.losses import ClassMemory, RankBatch, memorable_features


class CrossImageMemory:
    """Offer what a `ClassMemory` holds as the loss input `memory`, and add the batch's pixels and regions after a step.

    `memory` is None until something is remembered. Every rank of a distributed training remembers the features of all.
    The memory is part of the training's state: put this handler among the objects of `LastCheckpoint`. It is also
    handed from step to step: features of old classes, no images (row A8 of `docs/incremental_methods.md`).

    Args:
        size: features of each class that are remembered; 0 for no memory.
        labels: name of the label maps in the engine's state, output or batch; those of `PseudoLabels`, say.
        per_image: pixels of each class that each image adds, beside its mean.
        path: file that takes the memory when the training ends; None writes none.
        previous: file that the step before left; None begins with an empty memory.

    Raises:
        UserError: when training starts, if `previous` is missing or damaged.
    """

    def __init__(
        self,
        size: int = 5000,
        labels: str = "pseudo_label",
        per_image: int = 10,
        path: str | Path | None = None,
        previous: str | Path | None = None,
    ) -> None:
        self.memory = ClassMemory(size)
        self.labels, self.per_image = labels, per_image
        self.path, self.previous = path, previous

    def attach(self, engine: Engine) -> None:
        """Recall after the forward pass of the trainer `engine`, remember after its step."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._recall)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._remember)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _begin(self, engine: Engine) -> None:
        if engine.state.iteration == 0 and self.previous is not None:
            read_checkpoint(self.previous, {"memory": self.memory})

    def _recall(self, engine: Engine) -> None:
        state: Any = engine.state
        state.memory = self.memory.recall()

    @torch.no_grad()
    def _remember(self, engine: Engine) -> None:
        if not self.memory.size:
            return
        embeddings, label = engine_values(engine, ("embeddings", self.labels))
        features, classes = memorable_features(embeddings, label, self.per_image)
        batch = RankBatch(len(features), features.device)
        self.memory.remember(batch.gather(features), batch.gather(classes))

    def _write(self, _engine: Engine) -> None:
        if self.path is not None and idist.get_rank() == 0:
            write_checkpoint(self.path, {"memory": self.memory})

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is remembered."""
        return self.memory.state_dict()

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Remember what a `state_dict` holds."""
        self.memory.load_state_dict(state_dict)
