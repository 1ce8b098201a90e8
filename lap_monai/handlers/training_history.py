"""`history.json` and `history.csv`: what each epoch of a training measured."""

from __future__ import annotations

import csv
import io
import math
import time
from pathlib import Path
from typing import Any, cast

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from lap_monai.files import read_json, write_json, write_text
from lap_monai.handlers.loss_terms import iteration_terms

FILE_NAME = "history.json"


class TrainingHistory:
    """Rewrite `history.json` and `history.csv` after every epoch and every validation: one row per epoch.

    A row holds `epoch`, `seconds`, `lr`, the epoch's mean of the total `loss` and of every loss term (over all ranks),
    and the validation's metrics. A resumed run continues the file: rows from its first epoch on are replaced, earlier
    ones stay. Each file is written whole or not at all; only rank 0 writes.

    Args:
        output_dir: the run folder.
        validator: engine that a `ValidationHandler` runs during the training.
    """

    def __init__(self, output_dir: str | Path, validator: Engine | None = None) -> None:
        self.path = Path(output_dir) / FILE_NAME
        self.validator = validator
        self.rows: dict[int, dict[str, Any]] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0
        self._clock = 0.0
        self._fresh = True

    def attach(self, engine: Engine) -> None:
        """Record the epochs of the trainer `engine`, and what its validator finds."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._add_validation, engine)

    def _start(self, _engine: Engine) -> None:
        self._fresh = True

    def _start_epoch(self, engine: Engine) -> None:
        if self._fresh:  # not at STARTED: a checkpoint loader may come after this handler
            self.rows = {row["epoch"]: row for row in self._read() if row["epoch"] < engine.state.epoch}
            self._fresh = False
        self._sums, self._count, self._clock = {}, 0, time.monotonic()

    def _add_iteration(self, engine: Engine) -> None:
        for name, value in iteration_terms(engine.state.output).items():
            value = torch.as_tensor(value).detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def _end_epoch(self, engine: Engine) -> None:
        row: dict[str, Any] = {"epoch": engine.state.epoch, "seconds": round(time.monotonic() - self._clock, 2)}
        optimizer = getattr(engine, "optimizer", None)
        if optimizer is not None:
            row["lr"] = optimizer.param_groups[0]["lr"]
        row.update(self._means())
        # The validation of this epoch may have come first.
        self.rows[engine.state.epoch] = row | self.rows.get(engine.state.epoch, {})
        self._write()

    def _means(self) -> dict[str, float]:
        if not self._sums:
            return {}
        sums = torch.stack([value.reshape(()) for value in self._sums.values()]).cpu()
        sums = torch.cat([sums, torch.tensor([float(self._count)])])
        if idist.get_world_size() > 1:
            sums = cast(torch.Tensor, idist.all_reduce(sums.to(idist.device())))
        return dict(zip(self._sums, (sums[:-1] / sums[-1]).tolist(), strict=True))

    def _add_validation(self, validator: Engine, trainer: Engine) -> None:
        values = {name: value for name, value in validator.state.metrics.items() if isinstance(value, (int, float))}
        epoch = trainer.state.epoch
        self.rows[epoch] = {"epoch": epoch, **self.rows.get(epoch, {}), **values}
        self._write()

    def _read(self) -> list[dict[str, Any]]:
        try:
            return read_json(self.path)
        except (OSError, ValueError):
            return []

    def _write(self) -> None:
        if idist.get_rank() != 0:
            return
        rows = [self.rows[epoch] for epoch in sorted(self.rows)]
        write_json(self.path, rows)
        write_text(self.path.with_suffix(".csv"), rows_to_csv(rows))


def rows_to_csv(rows: list[dict[str, Any]]) -> str:
    """Return rows as CSV text: columns in order of first use, empty where a row lacks one or holds None or NaN."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: value for name, value in row.items() if not _empty(value)})
    return text.getvalue()


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
