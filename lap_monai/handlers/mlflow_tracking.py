"""Tracking a run with MLflow, in a way that can never stop it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.utils import path_to_sqlite_uri

from lap_monai.files import write_json
from lap_monai.flatten import flatten
from lap_monai.handlers.loss_terms import iteration_output, iteration_terms
from lap_monai.handlers.mlflow_outbox import MlflowOutbox
from lap_monai.handlers.on_exception import on_exception

logger = logging.getLogger(__name__)

#: Files of the run folder that become artifacts: records, configs, tables and the report.
ARTIFACTS = ("*.json", "*.yaml", "*.csv", "*.html")


class MLflowTracking:
    """Track the runs of a trainer or an evaluator.

    Logged are: the settings as parameters; every loss term in every iteration, under its own name; the learning rate
    and the validation's metrics, per class too, after every epoch; records, configs, tables and report of the run
    folder as artifacts. The run ends as FINISHED, as FAILED after an error, as KILLED after Ctrl-C or SIGTERM.

    Deviation: not a `monai.handlers.MLFlowHandler`. That one joins the latest unfinished run when it has no name, which
    mixes a new run into one that died; sends every value in a request of its own; and stops the training when the
    server is away. Here each run is a new one, values are sent once an epoch, and without a server the training goes
    on: it says so once, tries again later, and at the end leaves in `mlflow_unsent.json` what could not be sent.

    List this handler last, so that the other handlers' files are written before it uploads them.

    Args:
        output_dir: the run folder.
        settings: what the run's configuration decided; nested names are joined by dots.
        validator: engine that a `ValidationHandler` runs during the training.
        tracking_uri: where to track. The environment's `MLFLOW_TRACKING_URI` comes first; without either, an SQLite
            file `mlruns.db` in the run folder.
        experiment_name: MLflow's experiment.
        run_name: begins the run's name; time and a random part make it unique.

    Raises:
        UserError: if MLflow is not installed, or the address is a folder.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: Mapping[str, Any] | None = None,
        validator: Engine | None = None,
        tracking_uri: str | None = None,
        experiment_name: str = "lap_monai",
        run_name: str = "run",
    ) -> None:
        self.folder = Path(output_dir)
        self.settings = dict(settings or {})
        self.validator = validator
        database = path_to_sqlite_uri(self.folder.absolute() / "mlruns.db")
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri or database
        self.experiment_name = experiment_name
        self.run_name = run_name
        self.outbox = self._new_run()

    def attach(self, engine: Engine) -> None:
        """Track the runs of `engine`, and what its validator finds. Only rank 0 tracks."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log_epoch)
        engine.add_event_handler(Events.COMPLETED, self._end, "FINISHED")
        on_exception(engine, self._end_with)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._log_metrics, engine)

    def _new_run(self) -> MlflowOutbox:
        unique = f"{self.run_name}-{datetime.now():%Y%m%d-%H%M%S}-{uuid4().hex[:6]}"
        return MlflowOutbox(self.uri, self.experiment_name, unique)

    def _start(self, engine: Engine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)  # SQLite does not make it
        if self.outbox.run_id is not None:  # the engine runs a second time
            self.outbox = self._new_run()
        limits = {"max_epochs": engine.state.max_epochs, "epoch_length": engine.state.epoch_length}
        self.outbox.add_params(limits | flatten(self.settings))
        self.outbox.send()

    def _log_iteration(self, engine: Engine) -> None:
        terms = iteration_terms(iteration_output(engine))
        self.outbox.add_metrics({name: _detached(value) for name, value in terms.items()}, engine.state.iteration)

    def _log_epoch(self, engine: Engine) -> None:
        optimizer = getattr(engine, "optimizer", None)
        if optimizer is not None:
            self.outbox.add_metrics({"lr": optimizer.param_groups[0]["lr"]}, engine.state.epoch)
        self._log_metrics(engine, engine)
        self.outbox.send()

    def _log_metrics(self, source: Engine, clock: Engine) -> None:
        numbers = {name: value for name, value in source.state.metrics.items() if isinstance(value, (int, float))}
        self.outbox.add_metrics(numbers, clock.state.epoch)

    def _end(self, _engine: Engine, status: str) -> None:
        files: Sequence[Path] = sorted(path for pattern in ARTIFACTS for path in self.folder.glob(pattern))
        if self.outbox.finish(status, files):
            return
        unsent = {"params": self.outbox.params, "metrics": [metric.plain() for metric in self.outbox.metrics]}
        path = write_json(self.folder / "mlflow_unsent.json", {"run_name": self.outbox.run_name, **unsent})
        logger.warning(
            "MLflow at %s did not get all of this run: %d values are in %s, the epochs in history.json.",
            self.outbox.address,
            len(self.outbox.metrics),
            path,
        )

    def _end_with(self, engine: Engine, error: BaseException) -> None:
        self._end(engine, "FAILED" if isinstance(error, Exception) else "KILLED")


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
