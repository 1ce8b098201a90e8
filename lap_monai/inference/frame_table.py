"""`frames.csv`: what each frame shows; while a run lasts, its journal, which a resumed run goes on from."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lap_monai.checks import UserError
from lap_monai.inference.source import Failure, Item
from lap_monai.inference.writer import Prediction
from lap_monai.label_space import LabelSpace

FILE_NAME = "frames.csv"
#: A class is present if it covers this share of the frame: about 400 pixels of 854x480, less than any structure seen.
PRESENT = 0.001


class FrameTable:
    """Write one row a frame.

    Columns: `index`, `name`, `time` (seconds), `status` (`ok`, `failed`, or why the frame was passed over), `error`,
    `present` (classes that cover at least `PRESENT`), `confidence` (mean probability of the chosen class),
    `uncertainty` (mean normalised entropy, if asked for), and for each class `area NAME` (share of the frame) and
    `confidence NAME` (mean over the pixels given to it). Cells that mean nothing are empty.

    Rows wait in memory until a checkpoint appends them to `.frames.csv`, which becomes `frames.csv` at the end. That a
    run was killed between this and its last word is no loss: resumed, `frames.csv` becomes the journal again.

    Args:
        folder: the run's folder.
        label_space: names of the classes.
        resume: keep the rows of an earlier run.
    """

    def __init__(self, folder: Path, label_space: LabelSpace, resume: bool = False) -> None:
        self._path, self._journal = folder / FILE_NAME, folder / f".{FILE_NAME}"
        self._classes = label_space.classes
        self._rows: list[list[Any]] = []
        if resume and not self._journal.is_file() and self._path.is_file():
            self._path.replace(self._journal)
        if resume and self._journal.is_file():
            self.done = self._drop_torn_line()
        else:
            self.done = 0
            self._append([_columns(self._classes)], "w")

    def add(self, item: Item | Failure, prediction: Prediction | None) -> None:
        """Take the next frame: an item with its prediction, or a failure with None."""
        if isinstance(item, Failure) or prediction is None:
            error = item.error if isinstance(item, Failure) else ""
            self._rows.append([item.index, item.name, "", "failed", error, *[""] * (3 + 2 * len(self._classes))])
            return
        time = "" if item.time is None else f"{item.time:.6f}".rstrip("0").rstrip(".")
        self._rows.append([item.index, item.name, time, prediction.skipped or "ok", "", *self._scores(prediction)])

    def checkpoint(self) -> None:
        """Append the rows that wait to the journal, and see to it that they are on the disk."""
        self._append(self._rows, "a")
        self.done += len(self._rows)
        self._rows = []

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield the rows that checkpoints brought to the journal, those of earlier parts of the run too."""
        return read_rows(self._journal)

    def close(self) -> None:
        """Give the journal its name."""
        self.checkpoint()
        self._journal.replace(self._path)

    def _scores(self, prediction: Prediction) -> Iterator[str]:
        if prediction.logits is None or prediction.strongest is None:
            yield from [""] * (3 + 2 * len(self._classes))
            return
        count = len(self._classes)
        areas = np.bincount(prediction.labels.ravel(), minlength=256)[:count] / prediction.labels.size
        # The chosen class has probability 1 / sum(exp(logit - greatest)): no other is needed.
        top, chosen = prediction.strongest
        confidence = 1 / (prediction.logits.float() - top).exp_().sum(0)
        sums = np.bincount(chosen.numpy().ravel(), confidence.numpy().ravel(), count)
        pixels = np.bincount(chosen.numpy().ravel(), minlength=count)
        yield "; ".join(name for name, area in zip(self._classes, areas, strict=True) if area >= PRESENT)
        yield f"{sums.sum() / pixels.sum():.4f}"
        yield "" if prediction.uncertainty is None else f"{prediction.uncertainty.mean():.4f}"
        for area, total, number in zip(areas, sums, pixels, strict=True):
            yield f"{area:.6f}"
            yield f"{total / number:.4f}" if number else ""

    def _drop_torn_line(self) -> int:
        """Cut off a line that a killed process left unfinished; return the number of frames."""
        text = self._journal.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            with self._journal.open("r+b") as file:
                file.truncate(len(whole))
        return max(0, sum(1 for _ in csv.reader(io.StringIO(whole.decode()))) - 1)

    def _append(self, rows: list[list[Any]], mode: str) -> None:
        try:
            with self._journal.open(mode, encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"Cannot write {str(self._path)!r}: {error.strerror}; free space there, or name another folder."
            ) from error


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a table, one at a time."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _columns(classes: tuple[str, ...]) -> list[str]:
    fixed = ["index", "name", "time", "status", "error", "present", "confidence", "uncertainty"]
    return fixed + [f"{what} {name}" for name in classes for what in ("area", "confidence")]
