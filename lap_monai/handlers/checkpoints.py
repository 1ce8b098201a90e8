"""When a training writes its checkpoints and reads them back. Of several processes rank 0 writes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from lap_monai.checkpoints import (
    DamagedCheckpoint,
    Stateful,
    previous_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from lap_monai.checks import UserError

logger = logging.getLogger(__name__)


class LastCheckpoint:
    """Write everything a training needs to go on, after every epoch.

    List it after the `ValidationHandler`, so that what the validation changed (the scheduler, the best score) is in it.
    Of a file to resume from, one with an optimizer, the one before is kept, in case the last one is damaged.

    Weights that are not finite are never written; the training ends with a `UserError`, and the file is the epoch's
    before.

    Args:
        path: file to write, `checkpoint.pt` by convention.
        objects: name → object with a state: network, heads, optimizer, scheduler, best-checkpoint handler. The engine
            itself is added as `trainer` (in a config it cannot be referred to by its own handler).
        identity: names compared on resuming.
        interval: epochs between two writes; the last epoch is always written.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Stateful],
        identity: Mapping[str, Any] | None = None,
        interval: int = 1,
    ) -> None:
        self.path, self.objects, self.identity, self.interval = Path(path), objects, identity, interval

    def attach(self, engine: Engine) -> None:
        """Write after the epochs of the trainer `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        due = epoch % self.interval == 0 or epoch == engine.state.max_epochs
        if not due:
            return
        _require_finite(self.objects, engine.state.epoch)
        if idist.get_rank() != 0:
            return
        # What lies there when a training writes for the first time is of another training.
        keep = "optimizer" in self.objects and epoch > self.interval
        if not keep:
            previous_checkpoint(self.path).unlink(missing_ok=True)
        write_checkpoint(self.path, _with_engine(self.objects, engine), self.identity, keep)


class BestCheckpoint:
    """Write the network whenever the evaluator's key metric is the best so far.

    The best score is a state of its own: put this handler among the objects of `LastCheckpoint`, or a resumed training
    forgets it and overwrites a better network.

    A network whose weights are not finite is never kept; the training ends with a `UserError`.

    Args:
        path: file to write, `model.pt` by convention.
        objects: name → object; `{"model": network}` for a model-zoo bundle.
        metric: name of the metric, larger is better.
        identity: names a reader compares.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Stateful],
        metric: str,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.objects, self.metric, self.identity = Path(path), objects, metric, identity
        self.best = float("-inf")

    def attach(self, engine: Engine) -> None:
        """Look at the metric after each run of the evaluator `engine`."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        score = float(engine.state.metrics[self.metric])
        # A first network is kept even where no class could be scored (NaN).
        if score > self.best or not self.path.is_file():
            _require_finite(self.objects)
            self.best = max(self.best, score)
            if idist.get_rank() == 0:
                write_checkpoint(self.path, self.objects, self.identity)

    def state_dict(self) -> dict[str, float]:
        """Return the best score so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Take the best score so far."""
        self.best = float(state_dict["best"])


class VerifiedCheckpointLoader:
    """Load weights when an engine starts, after a look at what they belong to.

    MONAI's `CheckpointLoader` takes the weights of any network of the same shape; two label spaces of eight classes
    have the same shape.

    Args:
        path: the file.
        objects: name → object that takes the state.
        identity: names that must agree with those in the file.
        device: where the tensors go.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Stateful],
        identity: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.path, self.objects, self.identity, self.device = Path(path), objects, identity, device

    def attach(self, engine: Engine) -> None:
        """Load before the first iteration of `engine`."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        read_checkpoint(self.path, self.objects, self.identity, self.device)


class ResumeCheckpoint(VerifiedCheckpointLoader):
    """Continue a training from `path` when it starts, or, if that is damaged, from the file that was there before it.

    Args:
        path: the file a `LastCheckpoint` wrote.
        objects: the same objects as there.
        identity: names that must agree with those in the file.
        resume: True requires the file, False ignores it, "auto" continues if it is there.
        device: where the tensors go.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Stateful],
        identity: Mapping[str, Any] | None = None,
        resume: bool | str = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        if resume not in (True, False, "auto"):
            raise ValueError(f"ResumeCheckpoint: expected resume to be true, false or 'auto', got {resume!r}.")
        super().__init__(path, objects, identity, device)
        self.previous = previous_checkpoint(path)
        self.resume = self.path.is_file() or self.previous.is_file() if resume == "auto" else resume

    def __call__(self, engine: Engine) -> None:
        if not self.resume:
            return
        wanted_epochs = engine.state.max_epochs
        objects = _with_engine(self.objects, engine)
        try:
            read_checkpoint(self.path, objects, self.identity, self.device)
        except DamagedCheckpoint as damage:
            if not self.previous.is_file():
                raise
            read_checkpoint(self.previous, objects, self.identity, self.device)
            logger.warning("%s Going on from the one before it, of epoch %d.", damage, engine.state.epoch)
            idist.barrier()  # all have read it
            if idist.get_rank() == 0:
                os.replace(self.previous, self.path)  # lest the damaged file is kept as the previous one
        # The engine's state brings the epoch count it was started with; the config of this run decides.
        engine.state.max_epochs = wanted_epochs
        if wanted_epochs is not None and engine.state.epoch >= wanted_epochs:
            engine.terminate()


def _require_finite(objects: Mapping[str, Stateful], epoch: int | None = None) -> None:
    """Refuse networks with NaN or infinity in them: a loss was not finite, and no later epoch would mend that."""
    for name, item in objects.items():
        if isinstance(item, torch.nn.Module):
            tensors = [tensor for tensor in item.state_dict().values() if tensor.is_floating_point()]
            if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
                when = f" in epoch {epoch}" if epoch is not None else ""
                raise UserError(
                    f"The weights of {name!r} are no longer finite{when}, since a loss was not; they are not written. "
                    "Look for damaged frames, or start anew with a lower learning_rate."
                )


def _with_engine(objects: Mapping[str, Stateful], engine: Engine) -> dict[str, Stateful]:
    return {**objects, "trainer": engine}
