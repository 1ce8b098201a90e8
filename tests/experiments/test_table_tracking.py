from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lap_monai.experiments.stream_study import load_stream_study
from lap_monai.experiments.table_tracking import TableTracking
from lap_monai.handlers.mlflow_outbox import MlflowOutbox

mlflow = pytest.importorskip("mlflow")


@pytest.mark.slow
def test_cells_are_children_of_the_table(make_table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking = TableTracking(make_table(), tmp_path)
    for name, value in tracking.start().items():
        monkeypatch.setenv(name, value)
    child = MlflowOutbox(tracking.uri, "small", "cell")
    child.send()
    (tmp_path / "results.md").write_text("# small\n", encoding="utf-8")
    tracking.end("FINISHED", [tmp_path / "results.md"])
    client = mlflow.MlflowClient(tracking.uri)
    parent, own = (client.get_run(run_id) for run_id in (tracking.outbox.run_id, child.run_id))
    assert own.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in parent.data.tags
    assert parent.info.status == "FINISHED"
    assert parent.data.params["budgets"] == "[0.05, 0.1]"
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["results.md"]


def test_the_bundle_has_the_overlays_that_track(make_table: Any, tmp_path: Path) -> None:
    extras = TableTracking(make_table(), tmp_path, "sqlite:///nowhere.db").extras()
    assert all(Path(words[0]).is_file() for words in extras.values())


def test_the_bundle_of_streams_has_them_too(tmp_path: Path, repository: Path) -> None:
    study = load_stream_study(repository / "configs" / "studies" / "methods.yaml")
    tracking = TableTracking(study, tmp_path, "sqlite:///nowhere.db", "stream")
    assert tracking.outbox.run_name.startswith("stream-")
    assert all(Path(words[0]).is_file() for words in tracking.extras().values())


def test_a_server_that_is_away_stops_nothing(
    make_table: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking = TableTracking(make_table(), tmp_path, "http://127.0.0.1:9")
    assert tracking.start() == {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    tracking.end("FINISHED")
    assert "does not answer" in caplog.text
