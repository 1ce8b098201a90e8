"""A run on an MLflow server that may be away: what it is told waits until it can be sent."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from monai.utils import path_to_uri

from lap_monai.checks import UserError

logger = logging.getLogger(__name__)

#: How long a call may block a training, in seconds, and how often it is repeated; MLflow's own are 120 and 7.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}

#: Variable of the environment with the run that new runs are children of, such as the run of a whole table.
PARENT_VARIABLE = "LAP_MONAI_MLFLOW_PARENT"

#: Seconds after a failure before the server is tried again.
RETRY_AFTER = 30.0

# Limits of MLflow's log_batch, and of the length of a parameter's value.
_METRICS_PER_CALL, _PARAMS_PER_CALL, _PARAM_LENGTH = 1000, 100, 6000


@dataclass(frozen=True)
class Measurement:
    """One value of one metric. The value may be a tensor, read when it is sent, so that nothing waits for a device."""

    name: str
    value: Any
    step: int
    timestamp: int  #: milliseconds since 1970

    def plain(self) -> dict[str, Any]:
        """Return the measurement with a float value."""
        return asdict(self) | {"value": float(self.value)}


class MlflowOutbox:
    """Collect metrics and parameters of one new run and send them in batches.

    No method raises because of the server: the first failure is logged as a warning, what could not be sent is kept,
    and later calls of `send` try again, at most every `RETRY_AFTER` seconds.

    The run is always created, never looked up, so a run that died is never joined by a later one.

    Args:
        uri: tracking address, for example `sqlite:////run/mlruns.db` or `http://host:5000`.
        experiment: experiment name; made where it does not exist.
        run_name: name of the run.

    Raises:
        UserError: if MLflow is not installed, or the address is a folder (MLflow no longer tracks into folders).
    """

    def __init__(self, uri: str, experiment: str, run_name: str) -> None:
        if "://" not in uri or uri.startswith("file:"):
            raise UserError(f"MLflow cannot track into the folder {uri!r}; use sqlite:///PATH/mlruns.db or a server.")
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # surgical data: nothing leaves unasked
        try:
            import mlflow
        except ImportError as error:
            raise UserError(
                "Tracking needs MLflow: pip install 'lap_monai[tracking]', or leave the MLflowTracking handler out."
            ) from error
        for chatty in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._mlflow = mlflow
        self.uri, self.experiment, self.run_name = uri, experiment, run_name
        self.run_id: str | None = None
        self.metrics: list[Measurement] = []
        self.params: dict[str, str] = {}
        self.failures = 0
        self._client: Any = None
        self._retry_at = 0.0

    @property
    def address(self) -> str:
        """The tracking address without user name and password."""
        parts = urlsplit(self.uri)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else self.uri

    def add_metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Keep numbers or scalar tensors under the step they belong to."""
        now = int(time.time() * 1000)
        self.metrics += [Measurement(_valid(name), value, step, now) for name, value in values.items()]

    def add_params(self, values: Mapping[str, Any]) -> None:
        """Keep settings, as texts of at most 6000 characters."""
        self.params.update({_valid(name): str(value)[:_PARAM_LENGTH] for name, value in values.items()})

    def send(self, patient: bool = True) -> bool:
        """Send what waits, and return whether nothing waits any more.

        Args:
            patient: respect the pause after a failure; False tries at once.
        """
        if patient and time.monotonic() < self._retry_at:
            return False
        return self._try(self._send)

    def finish(self, status: str, artifacts: Iterable[Path]) -> bool:
        """Send what waits, then the artifacts and the final status; return whether all of it arrived.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
            artifacts: files to upload.
        """
        return self.send(patient=False) and self._try(lambda: self._finish(status, artifacts))

    def _finish(self, status: str, artifacts: Iterable[Path]) -> None:
        try:
            for path in artifacts:
                self._client.log_artifact(self.run_id, str(path))
        finally:
            self._client.set_terminated(self.run_id, status)

    def _try(self, action: Any) -> bool:
        try:
            action()
        except Exception as error:  # a store raises errors of its own driver: requests, urllib3, SQLAlchemy, MLflow
            self.failures += 1
            self._retry_at = time.monotonic() + RETRY_AFTER
            if self.failures == 1:
                reason = " ".join(str(error).replace(self.uri, self.address).split())[:300]
                logger.warning("MLflow at %s does not answer (%s). The run goes on without it.", self.address, reason)
            return False
        return True

    def _send(self) -> None:
        if self.run_id is None:
            self._create_run()
        entities = self._mlflow.entities
        while self.params:
            names = list(self.params)[:_PARAMS_PER_CALL]
            params = [entities.Param(name, self.params[name]) for name in names]
            self._client.log_batch(self.run_id, params=params)
            for name in names:
                del self.params[name]
        while self.metrics:
            batch = [
                entities.Metric(m.name, float(m.value), m.timestamp, m.step) for m in self.metrics[:_METRICS_PER_CALL]
            ]
            self._client.log_batch(self.run_id, metrics=batch)
            del self.metrics[: len(batch)]

    def _create_run(self) -> None:
        self._client = self._client or self._mlflow.MlflowClient(tracking_uri=self.uri)
        parent = os.environ.get(PARENT_VARIABLE)
        tags = {"mlflow.parentRunId": parent} if parent else {}
        run = self._client.create_run(self._experiment_id(), run_name=self.run_name, tags=tags)
        self.run_id = run.info.run_id

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return self._client.create_experiment(self.experiment, artifact_location=self._artifact_location())
            except self._mlflow.exceptions.MlflowException:  # another run may have made it in between
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        return found.experiment_id

    def _artifact_location(self) -> str | None:
        """A database holds no files: they go into `mlruns` beside an SQLite file; a server decides for itself."""
        prefix = "sqlite:///"
        if not self.uri.startswith(prefix):
            return None
        return path_to_uri(Path(unquote(self.uri[len(prefix) :])).parent / "mlruns")


def _valid(name: str) -> str:
    """A name that MLflow accepts: other characters than letters, digits and `_-./: ` become `_`."""
    return re.sub(r"[^\w\-./: ]", "_", name, flags=re.ASCII)
