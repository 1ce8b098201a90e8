from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events

import lap_monai
from lap_monai.files import read_json
from lap_monai.handlers import RunRecord
from lap_monai.provenance import command_line, git_revision, rows_fingerprint, versions


def engine_that(action: Callable[[], None] = lambda: None) -> Engine:
    return Engine(lambda engine, batch: action())


def run(engine: Engine, folder: Path, epochs: int = 2) -> dict:
    """Run the engine with a record in `folder`, whatever becomes of it, and return the record."""
    RunRecord(folder, {"seed": 3, "weights": {"dcl": 0.1}}, {"train": ["v1"]}, "abc").attach(engine)
    try:
        engine.run([1, 2], max_epochs=epochs)
    except BaseException as error:
        engine.died_of = error
    return read_json(folder / "run.json")


def test_a_completed_run_says_what_it_was(tmp_path: Path) -> None:
    record = run(engine_that(), tmp_path)
    assert record["status"] == "completed"
    assert record["settings"] == {"seed": 3, "weights": {"dcl": 0.1}}
    assert record["split"] == {"train": ["v1"]}
    assert record["fingerprint"] == "abc"
    assert (record["epoch"], record["max_epochs"], record["error"]) == (2, 2, None)
    assert record["versions"]["torch"] == str(torch.__version__)
    assert record["start"] <= record["end"]


def test_it_is_running_meanwhile(tmp_path: Path) -> None:
    statuses = []
    run(engine_that(lambda: statuses.append(read_json(tmp_path / "run.json")["status"])), tmp_path)
    assert set(statuses) == {"running"}


def test_a_failure_is_recorded_in_one_line_and_not_swallowed(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("first line\nsecond line")

    engine = engine_that(fail)
    record = run(engine, tmp_path)
    assert record["status"] == "failed"
    assert record["error"] == "ValueError: first line second line"
    assert isinstance(engine.died_of, ValueError)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_schedulers_stop_are_interruptions(number: int, tmp_path: Path) -> None:
    engine = engine_that(lambda: os.kill(os.getpid(), number))
    record = run(engine, tmp_path)
    assert record["status"] == "interrupted"
    assert not isinstance(engine.died_of, Exception)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_earlier_runs_of_the_folder_are_listed(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("out of memory")

    run(engine_that(fail), tmp_path)
    killed = Engine(lambda engine, batch: None)
    RunRecord(tmp_path).attach(killed)
    killed.fire_event(Events.STARTED)  # and nothing more, as after kill -9
    record = run(engine_that(), tmp_path)
    assert [entry["status"] for entry in record["earlier"]] == ["failed", "unfinished"]
    assert record["earlier"][0]["error"] == "RuntimeError: out of memory"


def test_a_damaged_record_does_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "run')
    assert run(engine_that(), tmp_path)["status"] == "completed"


def test_the_revision_is_of_this_package_and_not_of_a_folder_around_it(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = subprocess.run(["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode == 0:
        assert git_revision()["revision"] == head.stdout.strip()
    installed = tmp_path / "project" / "site-packages" / "lap_monai" / "__init__.py"
    subprocess.run(["git", "init", "-q", tmp_path / "project"], check=True)
    monkeypatch.setattr(lap_monai, "__file__", str(installed))
    assert git_revision() is None


def test_the_command_repeats_and_hides_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path.home()
    words = [str(home / ".venv/bin/python"), "-m", "monai.bundle", "run", "--dataset_dir", f"{home}/my data"]
    monkeypatch.setattr("sys.orig_argv", words)
    assert str(home) not in command_line()
    assert command_line().startswith("python -m monai.bundle run --dataset_dir ")


def test_versions_name_python_and_the_package() -> None:
    assert {"python", "lap_monai", "monai", "pytorch-ignite", "numpy"} <= set(versions())


def test_the_fingerprint_follows_the_frames_and_not_the_folder() -> None:
    def rows(root: str, frame: int = 1) -> list[dict]:
        return [{"image": f"{root}/v1/c1/{frame}.png", "video": "v1"}, {"image": f"{root}/v2/c1/7.png", "video": "v2"}]

    assert rows_fingerprint(rows("/a")) == rows_fingerprint(reversed(rows("/some/where")))
    assert rows_fingerprint(rows("/a")) != rows_fingerprint(rows("/a", frame=2))
