from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lap_monai import __version__
from lap_monai.experiments.children import may_run, process_identity
from lap_monai.experiments.warm_process import Child, start_command

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere every process starts afresh")

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}

#: Writes frames for minutes, into a folder that tells the process's number.
LONG = ("phantom", "long", "--videos", "500", "--frames", "500")

#: Seconds that a busy machine may take to import everything.
PATIENCE = 300

Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start `python -m lap_monai WORDS` in a folder of its own, with `output.txt` for what it prints."""
    monkeypatch.chdir(tmp_path)
    children: list[Child] = []

    def start(*words: str, **environment: str) -> Child:
        with Path("output.txt").open("ab") as log:
            children.append(start_command([sys.executable, "-m", "lap_monai", *words], ENVIRONMENT | environment, log))
        return children[-1]

    yield start
    for child in children:
        child.kill()


def works(child: int, folder: Path = Path()) -> bool:
    """Whether the command `LONG` has begun to write."""
    return (folder / f".long.partial-{child}").exists()


def wait_for(event: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not event():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def test_it_prints_into_the_log_and_answers_its_status(start: Start) -> None:
    first = start("--version")
    assert isinstance(first, subprocess.Popen) == torch.cuda.is_available()  # CUDA does not survive a fork
    assert first.wait(PATIENCE) == 0
    assert start("run").wait(PATIENCE) == 2
    assert start("run", "nowhere.json").wait(PATIENCE) == 1
    lines = Path("output.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == __version__
    assert lines[-1].startswith("error: ")
    assert "nowhere.json" in lines[-1]


def test_it_runs_as_a_process_from_nothing_would(start: Start, tmp_path: Path) -> None:
    words = ("phantom", "frames", "--videos", "3", "--frames", "2", "--size", "64x48", "--seed", "3")
    assert start(*words).wait(PATIENCE) == 0
    (tmp_path / "fresh").mkdir()
    command = [sys.executable, "-m", "lap_monai", *words]
    subprocess.run(command, check=True, cwd=tmp_path / "fresh", capture_output=True)
    forked, fresh = (
        {path.relative_to(folder): path.read_bytes() for path in (folder / "frames").rglob("*") if path.is_file()}
        for folder in (tmp_path, tmp_path / "fresh")
    )
    assert forked
    assert forked == fresh


def test_it_has_the_environment_that_it_is_given_and_no_other(start: Start) -> None:
    """The server lives longer than an environment: what one process was given must not reach the next one."""
    widths = []
    for environment in ({"COLUMNS": "60"}, {"COLUMNS": "200"}, {}):
        Path("output.txt").unlink(missing_ok=True)
        assert start("run", "--help", **environment).wait(PATIENCE) == 0
        widths.append(max(map(len, Path("output.txt").read_text(encoding="utf-8").splitlines())))
    assert 40 < widths[0] < 60 < widths[2] < 80 < widths[1] < 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it(start: Start, number: signal.Signals) -> None:
    child = start(*LONG)
    wait_for(lambda: works(child.pid))
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    child.send_signal(number)
    assert child.wait(PATIENCE) == -number
    child.send_signal(number)  # to nobody
    assert child.poll() == -number


def test_it_does_not_outlive_a_killed_runner(tmp_path: Path) -> None:
    runner = (
        "import os, sys, time; from lap_monai.experiments.warm_process import start_command\n"
        "if __name__ == '__main__':\n"
        f"  log = open('output.txt', 'ab'); words = {LONG!r}\n"
        "  child = start_command([sys.executable, '-m', 'lap_monai', *words], os.environ, log)\n"
        "  print(child.pid, flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", runner], stdout=subprocess.PIPE, cwd=tmp_path)
    try:
        assert process.stdout is not None
        child = process_identity(int(process.stdout.readline()))
        wait_for(lambda: works(child["pid"], tmp_path))
        assert may_run(child)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not may_run(child))


def test_other_programs_start_from_nothing(tmp_path: Path) -> None:
    with (tmp_path / "output.txt").open("ab") as log:
        child = start_command([sys.executable, "-c", "print('other')"], ENVIRONMENT, log)
    assert isinstance(child, subprocess.Popen)
    assert child.wait(PATIENCE) == 0
    assert (tmp_path / "output.txt").read_text(encoding="utf-8") == "other\n"
