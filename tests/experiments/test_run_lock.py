from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lap_monai.checks import UserError
from lap_monai.experiments.children import may_run, process_identity
from lap_monai.experiments.run_lock import RunLock


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def hold(folder: Path, shard: str = "1of1", **changes: object) -> Path:
    path = folder / f"runner.{shard}.lock"
    path.write_text(json.dumps({**process_identity(), **changes}), encoding="utf-8")
    return path


def test_a_second_runner_is_refused_and_the_first_named(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with pytest.raises(UserError, match=f"process {process_identity()['pid']} on {socket.gethostname()}"):
            RunLock(tmp_path).__enter__()
        assert RunLock(tmp_path).path.is_file(), "the refused one must not free the folder"
    assert not list(tmp_path.iterdir())


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RunLock(tmp_path):
        raise RuntimeError
    with RunLock(tmp_path):
        pass


def test_a_dead_runners_lock_is_taken_over_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hold(tmp_path, pid=gone(), began=None)
    with caplog.at_level(logging.WARNING), RunLock(tmp_path) as lock:
        assert json.loads(lock.path.read_text(encoding="utf-8")) == process_identity()
    assert "is gone; taking over" in caplog.text


def test_a_number_given_to_another_process_is_no_runner(tmp_path: Path) -> None:
    if process_identity()["began"] is None:
        pytest.skip("this system does not say when a process began")
    hold(tmp_path, began="1")
    with RunLock(tmp_path):
        pass


def test_a_lock_of_another_host_is_never_taken_over(tmp_path: Path) -> None:
    path = hold(tmp_path, pid=gone(), host="elsewhere")
    with pytest.raises(UserError, match=r"on elsewhere.*delete"):
        RunLock(tmp_path).__enter__()
    assert path.is_file()


def test_a_lock_cut_short_by_a_crash_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "runner.1of1.lock").write_text("{", encoding="utf-8")
    with RunLock(tmp_path):
        pass


def test_shards_of_one_division_run_side_by_side(tmp_path: Path) -> None:
    with RunLock(tmp_path, (1, 3)), RunLock(tmp_path, (2, 3)), pytest.raises(UserError):
        RunLock(tmp_path, (2, 3)).__enter__()


@pytest.mark.parametrize("other", [(1, 1), (1, 2), (1, 13)])
def test_shards_of_another_division_and_the_whole_are_refused(tmp_path: Path, other: tuple[int, int]) -> None:
    with RunLock(tmp_path, (1, 3)):
        with pytest.raises(UserError):
            RunLock(tmp_path, other).__enter__()
        assert [path.name for path in tmp_path.iterdir()] == ["runner.1of3.lock"]


def test_a_process_is_known_while_it_runs() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(process.pid)
    assert may_run(identity)
    process.kill()
    process.wait()
    assert not may_run(identity)
