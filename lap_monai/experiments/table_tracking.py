"""A table, or a stream, in MLflow: one parent run a sitting, and a child run for each process of a cell."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from monai.utils import path_to_sqlite_uri

from lap_monai.flatten import flatten
from lap_monai.handlers.mlflow_outbox import PARENT_VARIABLE, MlflowOutbox


class Declared(Protocol):
    """A table or a study."""

    @property
    def name(self) -> str:
        """The experiment's name."""

    @property
    def content(self) -> Mapping[str, Any]:
        """The file as read."""

    @property
    def bundle(self) -> Path:
        """The bundle whose runs are tracked."""


class TableTracking:
    """The parent run. A tracking server that is away costs a warning, never a cell.

    Args:
        table: what is run.
        run_dir: the run folder.
        uri: where to track; empty for the environment's `MLFLOW_TRACKING_URI`, else `mlruns.db` in the run folder.
        what: it is, for the parent run's name.

    Raises:
        UserError: if MLflow is not installed, or the address is a folder.
    """

    def __init__(self, table: Declared, run_dir: Path, uri: str = "", what: str = "table") -> None:
        database = path_to_sqlite_uri(run_dir.absolute() / "mlruns.db")
        self.table = table
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or database
        self.outbox = MlflowOutbox(self.uri, table.name, f"{what}-{datetime.now():%Y%m%d-%H%M%S}")

    def start(self) -> dict[str, str]:
        """Begin the parent run; return what the cells' environment needs to become its children."""
        self.outbox.add_params(flatten({key: value for key, value in self.table.content.items() if key != "published"}))
        self.outbox.send()
        parent = {PARENT_VARIABLE: self.outbox.run_id} if self.outbox.run_id else {}
        return {"MLFLOW_TRACKING_URI": self.uri, **parent}

    def extras(self) -> dict[str, list[str]]:
        """Return the overlays by which a bundle's processes track themselves."""
        configs = self.table.bundle / "configs"
        experiment = f"experiment_name={self.table.name}"
        return {
            "train": [str(configs / "mlflow.json"), experiment],
            "evaluate": [str(configs / "mlflow_evaluate.json"), experiment],
        }

    def end(self, status: str, files: Sequence[Path] = ()) -> None:
        """End the parent run with `FINISHED`, `FAILED` or `KILLED`, the table's files with it."""
        self.outbox.finish(status, files)
