from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine, Events
from mlflow import MlflowClient

from lap_monai.checks import UserError
from lap_monai.files import read_json
from lap_monai.handlers import MLflowTracking, RunRecord, TrainingHistory, mlflow_outbox
from lap_monai.handlers.loss_terms import loss_terms

SETTINGS = {"seed": 3, "weights": {"dcl": 0.1}}


@pytest.fixture(autouse=True)
def _no_address_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def database(folder: Path) -> str:
    return f"sqlite:///{folder}/mlruns.db"


def tracked_trainer(make_trainer: Callable, folder: Path, epochs: int = 2, **options: Any) -> Engine:
    """A trainer with record, history and tracking in `folder`; `trainer.spy` collects every iteration's terms."""
    trainer = make_trainer(
        epochs,
        handlers=lambda validator: [
            RunRecord(folder, SETTINGS),
            TrainingHistory(folder, validator=validator),
            MLflowTracking(folder, SETTINGS, validator=validator, **options),
        ],
    )
    trainer.spy = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: trainer.spy.append(loss_terms(e.state.output)))
    return trainer


def crash_in_epoch(trainer: Engine, epoch: int, error: BaseException) -> None:
    def crash() -> None:
        if trainer.state.epoch == epoch:
            raise error

    trainer.add_event_handler(Events.ITERATION_COMPLETED, crash)


def runs_at(uri: str) -> list[Any]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("lap_monai")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def metric(uri: str, run: Any, name: str) -> list[float]:
    return [point.value for point in MlflowClient(uri).get_metric_history(run.info.run_id, name)]


def check_complete(uri: str, run: Any, trainer: Engine, epochs: int = 2) -> None:
    """Everything that the training measured is at the tracking address."""
    for name in ("loss", "seg", "extra"):
        assert metric(uri, run, name) == pytest.approx([terms[name] for terms in trainer.spy])
    assert len(metric(uri, run, "val_mean_iou")) == len(metric(uri, run, "lr")) == epochs
    assert len(metric(uri, run, "val_iou/Gallbladder")) == epochs
    assert run.data.params["weights.dcl"] == "0.1"
    assert run.data.params["seed"] == "3"


@pytest.mark.slow
def test_everything_arrives_in_an_sqlite_file_of_the_run_folder(make_trainer: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "not yet made" / "run"
    trainer = tracked_trainer(make_trainer, folder)
    trainer.run()
    (run,) = runs_at(database(folder))
    assert run.info.status == "FINISHED"
    check_complete(database(folder), run, trainer)
    artifacts = {item.path for item in MlflowClient(database(folder)).list_artifacts(run.info.run_id)}
    assert {"run.json", "history.json", "history.csv"} <= artifacts
    stored = next((folder / "mlruns").rglob("run.json"))
    assert read_json(stored)["status"] == "completed"
    assert not (folder / "mlflow_unsent.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("error", "status"), [(RuntimeError("crash"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_run_that_dies_says_so_and_is_never_joined(
    error: BaseException, status: str, make_trainer: Callable, tmp_path: Path
) -> None:
    first = tracked_trainer(make_trainer, tmp_path)
    crash_in_epoch(first, 2, error)
    with pytest.raises(type(error)):
        first.run()
    second = tracked_trainer(make_trainer, tmp_path)
    second.run()
    died, finished = runs_at(database(tmp_path))
    assert (died.info.status, finished.info.status) == (status, "FINISHED")
    assert len(metric(database(tmp_path), died, "loss")) == 4  # an epoch, and the iteration that died
    check_complete(database(tmp_path), finished, second)


@pytest.mark.slow
def test_a_run_killed_outright_is_not_joined_either(make_trainer: Callable, tmp_path: Path) -> None:
    killed = tracked_trainer(make_trainer, tmp_path)
    killed.fire_event(Events.STARTED)  # and nothing more, as after kill -9
    tracked_trainer(make_trainer, tmp_path).run()
    left, finished = runs_at(database(tmp_path))
    assert left.info.status == "RUNNING"
    assert left.info.run_name != finished.info.run_name
    assert left.data.metrics == {}


@pytest.mark.slow
def test_an_engine_that_runs_twice_makes_two_runs(make_evaluator: Callable, tmp_path: Path) -> None:
    evaluator = make_evaluator(val_handlers=[MLflowTracking(tmp_path, SETTINGS, run_name="eval")])
    evaluator.run()
    evaluator.run()
    runs = runs_at(database(tmp_path))
    assert len({run.info.run_name for run in runs}) == 2
    assert all(run.info.run_name.startswith("eval-") for run in runs)
    assert all("val_mean_iou" in run.data.metrics for run in runs)


def test_a_folder_is_no_tracking_address(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use sqlite:///"):
        MLflowTracking(tmp_path, tracking_uri=str(tmp_path))


def test_missing_mlflow_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install 'lap_monai\[tracking\]'"):
        MLflowTracking(tmp_path)


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert MLflowTracking(tmp_path, tracking_uri="http://other").outbox.uri == "http://tracking.example:5000"


def test_passwords_are_not_logged(make_trainer: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uri = f"http://user:secret@127.0.0.1:{free_port()}"
    tracked_trainer(make_trainer, tmp_path, epochs=1, tracking_uri=uri).run()
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("lap_monai")]
    assert any("does not answer" in line for line in ours)
    assert not any("secret" in line for line in ours)


def test_a_server_that_was_never_there_costs_a_warning_and_no_time(
    make_trainer: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    trainer = tracked_trainer(make_trainer, tmp_path, epochs=3, tracking_uri=uri)
    start = time.monotonic()
    trainer.run()
    assert time.monotonic() - start < 5
    check_told_and_kept(trainer, tmp_path, caplog, epochs=3)


def check_told_and_kept(trainer: Engine, folder: Path, caplog: pytest.LogCaptureFixture, epochs: int) -> None:
    """One warning when the server went, one at the end, and every value in a file."""
    assert trainer.state.epoch == epochs
    ours = [record for record in caplog.records if record.name.startswith("lap_monai")]
    assert [record.levelno for record in ours] == [logging.WARNING] * 2
    assert "does not answer" in ours[0].getMessage()
    assert "mlflow_unsent.json" in ours[1].getMessage()
    assert [row["epoch"] for row in read_json(folder / "history.json")] == list(range(1, epochs + 1))
    assert read_json(folder / "run.json")["status"] == "completed"


class Server:
    """A real MLflow server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).read()
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
            else:
                return
        pytest.fail(f"the server did not start:\n{(self.folder / 'server.log').read_text()[-3000:]}")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of this file, which takes seconds to start; stopped in the end."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(one_server: Server) -> Server:
    """The server, running."""
    if one_server.process is None:
        one_server.start()
    return one_server


@pytest.mark.slow
def test_everything_arrives_at_a_server(server: Server, make_trainer: Callable, tmp_path: Path) -> None:
    trainer = tracked_trainer(make_trainer, tmp_path, tracking_uri=server.uri)
    trainer.run()
    run = runs_at(server.uri)[-1]
    assert run.info.status == "FINISHED"
    check_complete(server.uri, run, trainer)
    artifacts = {item.path for item in MlflowClient(server.uri).list_artifacts(run.info.run_id)}
    assert {"run.json", "history.json"} <= artifacts
    assert not (tmp_path / "mlruns.db").exists()


@pytest.mark.slow
def test_a_server_that_dies_stops_nothing_and_nothing_is_lost(
    server: Server, make_trainer: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = tracked_trainer(make_trainer, tmp_path, epochs=5, tracking_uri=server.uri)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), server.stop)
    start = time.monotonic()
    trainer.run()
    assert time.monotonic() - start < 30
    check_told_and_kept(trainer, tmp_path, caplog, epochs=5)

    server.start()  # what it had got before, and what was kept, make the whole
    run = runs_at(server.uri)[-1]
    kept = [
        point["value"] for point in read_json(tmp_path / "mlflow_unsent.json")["metrics"] if point["name"] == "loss"
    ]
    sent = metric(server.uri, run, "loss")
    assert len(sent) == 6
    assert sent + kept == pytest.approx([terms["loss"] for terms in trainer.spy])


@pytest.mark.slow
def test_a_server_that_comes_back_gets_what_it_missed(
    server: Server, make_trainer: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_outbox, "RETRY_AFTER", 0.0)
    trainer = tracked_trainer(make_trainer, tmp_path, epochs=4, tracking_uri=server.uri)
    trainer.add_event_handler(Events.EPOCH_STARTED(once=2), server.stop)
    trainer.add_event_handler(Events.EPOCH_STARTED(once=4), server.start)
    trainer.run()
    run = runs_at(server.uri)[-1]
    assert run.info.status == "FINISHED"
    check_complete(server.uri, run, trainer, epochs=4)
    assert not (tmp_path / "mlflow_unsent.json").exists()
