"""Checkpoints that are whole or not there, and that say what they belong to. Of several processes rank 0 writes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from lap_monai.checks import UserError
from lap_monai.files import replacing

#: Key under which a checkpoint keeps the names that must agree before its weights mean anything.
IDENTITY = "identity"


class Stateful(Protocol):
    """What can be saved: a network, an optimizer, a scheduler, an engine, a `BestCheckpoint`."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take the state."""


def write_checkpoint(
    path: str | Path, objects: Mapping[str, Stateful], identity: Mapping[str, Any] | None = None
) -> None:
    """Save `{name: object.state_dict()}` at `path`, atomically.

    Args:
        path: the file; its folder is made if need be.
        objects: what is saved, by name.
        identity: names a reader compares before it takes the weights, such as the label space.

    Raises:
        UserError: if the file cannot be written. The previous file, if any, is still whole.
    """
    content: dict[str, Any] = {name: item.state_dict() for name, item in objects.items()}
    if identity:
        content[IDENTITY] = dict(identity)
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())  # a power cut after the rename must not leave an empty file
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        raise UserError(
            f"Cannot write the checkpoint {str(path)!r}: {error}. Free space or name another folder."
        ) from error


def read_checkpoint(
    path: str | Path,
    objects: Mapping[str, Stateful],
    identity: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> None:
    """Load `path` into `objects`, once everything that can be said against the file is ruled out.

    Raises:
        UserError: if the file is missing, damaged, lacks one of `objects`, belongs to another identity (label space),
            or holds a network of another shape. In the last case alone objects may have been changed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"No checkpoint at {str(path)!r}; train first, or give the folder of a model.pt as ckpt_dir.")
    content = _read(path, device)
    if not isinstance(content, dict) or (absent := [name for name in objects if name not in content]):
        lacking = ", ".join(absent) if isinstance(content, dict) else "everything"
        raise UserError(f"The checkpoint {str(path)!r} lacks {lacking}; it was not written by this training.")
    found = content.get(IDENTITY, {})
    for name, expected in (identity or {}).items():
        if name in found and found[name] != expected:
            raise UserError(
                f"The checkpoint {str(path)!r} was trained with {name} {found[name]!r}, but this run uses "
                f"{expected!r}; set {name} to {found[name]!r} or give another checkpoint."
            )
    try:
        for name, item in objects.items():
            item.load_state_dict(content[name])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        first_line = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"The checkpoint {str(path)!r} does not fit the configured {name}: {first_line}") from error


def _read(path: Path, device: str | torch.device) -> Any:
    try:
        # PyTorch does not compare the checksums that it writes: a flipped bit would be a silently wrong weight.
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if (spoilt := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(f"wrong checksum of {spoilt}")
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # damage ends in errors of any kind, from the archive, the unpickler or the storage
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"The checkpoint {str(path)!r} is damaged or not a checkpoint ({type(error).__name__}); "
            "restore it or delete it to start anew."
        ) from error


class LastCheckpoint:
    """Write everything a training needs to go on, after every epoch.

    List it after the `ValidationHandler`, so that what the validation changed (the scheduler, the best score) is in it.

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
        if due and idist.get_rank() == 0:
            write_checkpoint(self.path, _with_engine(self.objects, engine), self.identity)


class BestCheckpoint:
    """Write the network whenever the evaluator's key metric is the best so far.

    The best score is a state of its own: put this handler among the objects of `LastCheckpoint`, or a resumed training
    forgets it and overwrites a better network.

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
    """Continue a training from `path` when it starts.

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
        self.resume = self.path.is_file() if resume == "auto" else resume

    def __call__(self, engine: Engine) -> None:
        if not self.resume:
            return
        wanted_epochs = engine.state.max_epochs
        read_checkpoint(self.path, _with_engine(self.objects, engine), self.identity, self.device)
        # The engine's state brings the epoch count it was started with; the config of this run decides.
        engine.state.max_epochs = wanted_epochs
        if wanted_epochs is not None and engine.state.epoch >= wanted_epochs:
            engine.terminate()


def _with_engine(objects: Mapping[str, Stateful], engine: Engine) -> dict[str, Stateful]:
    return {**objects, "trainer": engine}
