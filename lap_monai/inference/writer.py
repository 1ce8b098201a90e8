"""Where predictions go: one protocol for pictures, videos, tables, NIfTI and DICOM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from lap_monai.checks import require_choice
from lap_monai.inference.source import Failure, Item, Pixels, Source
from lap_monai.label_space import LabelSpace


@dataclass(eq=False)
class Prediction:
    """What the network makes of one frame.

    Args:
        labels: class ids `(H, W)` uint8 at the frame's own size; 255 everywhere in a frame that was passed over.
        logits: `(C, h, w)` at the network's size, on the CPU; None in a frame that was passed over.
        uncertainty: `(h, w)` in [0, 1] at the network's size, normalised entropy under flips; None if not asked for.
        skipped: why the frame was passed over (`"black"`), or None.
        strongest: the greatest logit of each pixel and its class id, both `(h, w)`, known wherever `logits` are.
    """

    labels: Pixels
    logits: torch.Tensor | None = None
    uncertainty: NDArray[np.float32] | None = None
    skipped: str | None = None
    strongest: tuple[torch.Tensor, torch.Tensor] | None = None

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Class probabilities `(C, h, w)` at the network's size, computed when first asked for."""
        if self.logits is None:
            raise ValueError("Prediction: a frame that was passed over has no probabilities.")
        return self.logits.float().softmax(0).numpy()


@dataclass(frozen=True)
class Output:
    """What a writer needs to know before the first frame.

    Args:
        folder: the run's folder; a writer keeps to files and folders of its own name in it.
        source: where the frames come from.
        label_space: names and colours of the classes.
        start: index of the first item that will come; above 0 when a run is resumed.
        side_by_side: pictures show the plain frame beside the painted one.
        legend: pictures name the classes.
        keep_identifiers: headers may be carried over (patient, times, paths); by default nothing of them is.
    """

    folder: Path
    source: Source
    label_space: LabelSpace
    start: int = 0
    side_by_side: bool = False
    legend: bool = True
    keep_identifiers: bool = False


class Writer(Protocol):
    """Takes predictions in the order of the source, in a thread of its own.

    Every file is whole or not there (`lap_monai.files.replacing`). What cannot be written raises `UserError` or
    `OSError`, which ends the run.
    """

    @property
    def resumable(self) -> bool:
        """Whether a later run can go on from a checkpoint; otherwise it starts over. May be a plain attribute."""
        ...

    def write(self, item: Item, prediction: Prediction) -> None:
        """Take the next frame. Failed frames do not come; frames passed over do, with `prediction.skipped`."""
        ...

    def checkpoint(self, done: int) -> None:
        """Bring everything to the disk: a resumed run will start at index `done`. May do nothing."""
        ...

    def close(self) -> None:
        """Finish the files after the last frame."""
        ...

    def abort(self) -> None:
        """Remove what is not whole; what a checkpoint brought to the disk stays."""
        ...


@runtime_checkable
class SelectiveWriter(Writer, Protocol):
    """A writer that cannot take every frame of its source, and knows so before the network has seen it."""

    def refusal(self, item: Item) -> str | None:
        """Return why a frame cannot be written, cause and remedy without the source's path, or None.

        Called in the order of the source, in another thread than the other methods.
        """
        ...


def without_refused(items: Iterator[Item | Failure], writers: Sequence[Writer]) -> Iterator[Item | Failure]:
    """Yield the items, those that one of the writers cannot take as failures, so that the run goes on without them."""
    selective = [writer for writer in writers if isinstance(writer, SelectiveWriter)]
    for item in items:
        reasons = (writer.refusal(item) for writer in selective if isinstance(item, Item))
        reason = next(filter(None, reasons), None)
        yield item if reason is None else Failure(item.name, item.index, reason)


class FileWriter:
    """Base of writers that write each frame's files whole, so that there is nothing to finish and nothing to undo."""

    resumable = True

    def checkpoint(self, done: int) -> None:
        """Do nothing: every file is whole as soon as it is written."""

    def close(self) -> None:
        """Do nothing: every file is whole as soon as it is written."""

    def abort(self) -> None:
        """Do nothing: every file is whole as soon as it is written."""


WriterFactory = Callable[[Output], Writer]

#: Writers by the name that `--write` takes.
WRITERS: dict[str, WriterFactory] = {}


def register_writer(name: str, factory: WriterFactory) -> WriterFactory:
    """Add a writer; a `UserError` of the factory says which source or package it lacks."""
    WRITERS[name] = factory
    return factory


def open_writers(names: Sequence[str], output: Output) -> list[Writer]:
    """Make the named writers.

    Raises:
        UserError: for an unknown name.
    """
    return [WRITERS[require_choice(name, WRITERS, "writer")](output) for name in dict.fromkeys(names)]
