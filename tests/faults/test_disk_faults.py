"""A full disk, files that cannot be read, workers that die, clocks that lie, met by the real commands."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import CommandLine, assert_same_network
from kill_tasks import Task
from killing import Ended, Fault, Moment, Watch

from lap_monai.files import read_json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and looks for processes in /proc"),
]

Whole = Callable[[str], tuple[Path, Ended]]


def said(folder: Path) -> list[str]:
    """What a command printed."""
    return folder.with_name(f"{folder.name}.log").read_text(encoding="utf-8").splitlines()


def the_error(folder: Path) -> str:
    """The one line in which a command says what went wrong."""
    lines = said(folder)
    assert not [line for line in lines if "Traceback" in line], "\n".join(lines)
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, "\n".join(lines)
    return errors[0]


def assert_resumed(task: Task, folder: Path, undisturbed: Path) -> None:
    ended = task.start(folder)
    assert ended.status == 0, said(folder)
    assert task.fingerprints(folder) == task.fingerprints(undisturbed)


@pytest.mark.parametrize("name", ["train", "table", "generate", "predict", "stream"])
def test_no_command_reaches_for_the_network(whole: Whole, name: str) -> None:
    """Sockets are blocked in all of these runs; nothing tried to use one. A table evaluates, too."""
    assert whole(name)[1].operation == ""


def test_a_command_that_reached_for_the_network_would_be_noticed(tmp_path: Path) -> None:
    watch = Watch()
    if (child := os.fork()) == 0:
        watch.listen(tmp_path)
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        except OSError as error:
            os._exit(error.errno or 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.ENETUNREACH
    assert "127.0.0.1" in watch.operation


@pytest.mark.parametrize(("name", "share"), [("train", 0.8), ("generate", 0.5), ("predict", 0.5)])
def test_a_full_disk_ends_a_command_with_one_line_and_nothing_is_lost(
    tasks: dict[str, Task], whole: Whole, place: Path, name: str, share: float
) -> None:
    undisturbed, ended = whole(name)
    folder = place / f"full_{name}_{share}"
    fault = Fault(errno.ENOSPC, folder, "write", first=int(share * ended.writes))
    assert tasks[name].start(folder, None, fault).status == 1
    assert "No space left on device" in the_error(folder)
    hidden = {path.name for path in folder.rglob(".*") if path.suffix != ".lock" and path.is_file()}
    assert hidden <= {".frames.csv"}, "a half-written file was left"  # that one is the journal of predict
    assert_resumed(tasks[name], folder, undisturbed)


@pytest.mark.parametrize(
    ("number", "kind", "part"), [(errno.EIO, "read", "_endo.png"), (errno.EACCES, "list", "video02")]
)
def test_data_that_cannot_be_read_are_named(
    tasks: dict[str, Task], whole: Whole, place: Path, number: int, kind: str, part: str
) -> None:
    folder = place / f"unread_{number}_{kind}_{part}"
    assert tasks["train"].start(folder, None, Fault(number, place / "data", kind, name=part)).status == 1
    assert part in the_error(folder)
    assert not list(folder.glob("run/models/*"))
    if kind == "read":
        assert_resumed(tasks["train"], folder, whole("train")[0])


def test_a_frame_that_cannot_be_read_costs_predict_that_frame_only(
    tasks: dict[str, Task], whole: Whole, place: Path
) -> None:
    undisturbed, _ = whole("predict")
    folder = place / "unread_frame"
    bad = sorted((place / "frames").iterdir())[2]
    assert tasks["predict"].start(folder, None, Fault(errno.EIO, bad, "read")).status == 3
    labels = {path.name: path.read_bytes() for path in (folder / "results" / "labels").iterdir()}
    others = {path.name: path.read_bytes() for path in (undisturbed / "results" / "labels").iterdir()}
    assert labels == {name: content for name, content in others.items() if name != bad.name}
    assert str(place) not in (folder / "results" / "frames.csv").read_text(encoding="utf-8")


def test_a_corrupted_checkpoint_costs_an_epoch(tasks: dict[str, Task], whole: Whole, place: Path) -> None:
    """What else may be wrong with a checkpoint, `tests/handlers/test_checkpoints.py` tries."""
    folder = place / "corrupted"
    shutil.copytree(whole("train")[0], folder)
    path = folder / "run" / "models" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-5000])
    assert_resumed(tasks["train"], folder, whole("train")[0])
    log = "\n".join(said(folder))
    assert "checkpoint.pt' is damaged" in log
    assert "Going on from the one before it, of epoch 1." in log


def test_a_loaders_worker_that_dies_ends_a_training_resumable(tasks: dict[str, Task], place: Path) -> None:
    def words(folder: Path) -> list[str]:
        return [*tasks["train"].words(folder), "num_workers=1"]

    task = replace(tasks["train"], words=words)
    undisturbed, folder = place / "workers_whole", place / "workers"
    ended = task.start(undisturbed)
    assert ended.status == 0, said(undisturbed)
    assert task.start(folder, Moment(write=ended.writes // 2, victim="worker")).status == 1
    assert "DataLoader worker" in the_error(folder)
    assert "Lower num_workers" in the_error(folder)
    assert read_json(folder / "run" / "run.json")["status"] == "failed"
    assert_resumed(task, folder, undisturbed)


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock that goes back a minute whenever somebody looks, as if it were set again and again."""
    now = time.time()

    def look() -> float:
        nonlocal now
        now -= 60
        return now

    monkeypatch.setattr(time, "time", look)
    yield
    logging.captureWarnings(False)


def test_a_clock_that_goes_backwards_changes_nothing(
    cli: CommandLine, tiny_run: Path, backwards: None, tmp_path: Path
) -> None:
    assert cli.train().status == 0
    assert_same_network(cli.out / "models" / "model.pt", tiny_run / "models" / "model.pt")
    assert read_json(cli.out / "run.json")["seconds"] >= 0
    assert all(row["seconds"] >= 0 for row in read_json(cli.out / "history.json"))
    frames = next(cli.data.glob("video*/*"))
    words = ["predict", frames, "--bundle", cli.out, "--out", tmp_path / "labels", "--device", "cpu"]
    assert cli(*words, "--write", "labels").status == 0
    assert read_json(tmp_path / "labels" / "run.json")["seconds"] >= 0


def test_a_loss_that_is_not_finite_ends_a_training_before_it_is_kept(cli: CommandLine) -> None:
    """What comes of it in a later epoch, `tests/handlers/test_checkpoints.py` says."""
    error = cli.train("learning_rate=1e30", "steps_per_epoch=4").error
    assert "no longer finite" in error
    assert "lower learning_rate" in error
    assert not list(cli.out.glob("models/*"))
    assert read_json(cli.out / "run.json")["status"] == "failed"
