"""Checkpoint files: whole or not there, read without running anything, and compared with what they belong to."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from lap_monai.checks import UserError
from lap_monai.files import remove_leftovers, replacing

#: Key under which a checkpoint keeps the names that must agree before its weights mean anything.
IDENTITY = "identity"


class DamagedCheckpoint(UserError):
    """A checkpoint that is missing or cannot be read; nothing was taken from it."""


class Stateful(Protocol):
    """What can be saved: a network, an optimizer, a scheduler, an engine, a `BestCheckpoint`."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take the state."""


def previous_checkpoint(path: str | Path) -> Path:
    """Return where `write_checkpoint` keeps the file that it replaces."""
    path = Path(path)
    return path.with_name(f"previous_{path.name}")


def write_checkpoint(
    path: str | Path,
    objects: Mapping[str, Stateful],
    identity: Mapping[str, Any] | None = None,
    keep_previous: bool = False,
) -> None:
    """Save `{name: object.state_dict()}` at `path`, atomically.

    Args:
        path: the file; its folder is made if need be.
        objects: what is saved, by name.
        identity: names a reader compares before it takes the weights, such as the label space.
        keep_previous: move the file that is replaced to `previous_checkpoint(path)`. Whoever is killed between the two
            renamings leaves that one only.

    Raises:
        UserError: if the file cannot be written. The previous file, if any, is still whole.
    """
    content: dict[str, Any] = {name: item.state_dict() for name, item in objects.items()}
    if identity:
        content[IDENTITY] = dict(identity)
    remove_leftovers(path)  # as large as the checkpoint itself
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())  # a power cut after the rename must not leave an empty file
            if keep_previous and Path(path).is_file():
                os.replace(path, previous_checkpoint(path))
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        if (stop := _stop_below(error)) is not None:
            raise stop from None
        raise UserError(
            f"Cannot write the checkpoint {str(path)!r}: {error}. Free space or name another folder."
        ) from error


def _stop_below(error: BaseException) -> BaseException | None:
    """The Ctrl-C or exit that `error` hides, if there is one.

    A file checks for signals between its writes. torch closes its archive all the same, finds it short, and raises a
    RuntimeError about that in the place of the KeyboardInterrupt.
    """
    below: BaseException | None = error
    while below is not None and isinstance(below, Exception):
        below = below.__context__
    return below


def read_checkpoint(
    path: str | Path,
    objects: Mapping[str, Stateful],
    identity: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> None:
    """Load `path` into `objects`, once everything that can be said against the file is ruled out.

    Raises:
        DamagedCheckpoint: if the file is missing or damaged.
        UserError: if it lacks one of `objects`, belongs to another identity (label space), or holds a network of
            another shape. In the last case alone objects may have been changed.
    """
    path = Path(path)
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


def read_identity(path: str | Path) -> dict[str, Any]:
    """Return the names that a checkpoint was written with; empty for one without.

    Raises:
        DamagedCheckpoint: if the file is missing or damaged.
    """
    content = _read(Path(path), "cpu")
    return dict(content.get(IDENTITY, {})) if isinstance(content, dict) else {}


def _read(path: Path, device: str | torch.device) -> Any:
    if not path.is_file():
        raise DamagedCheckpoint(
            f"No checkpoint at {str(path)!r}; train first, or give the folder of a model.pt as ckpt_dir."
        )
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
        raise DamagedCheckpoint(
            f"The checkpoint {str(path)!r} is damaged or not a checkpoint ({type(error).__name__}); "
            "restore it or delete it to start anew."
        ) from error
