"""Commands of lap_monai in processes that begin with everything imported.

A process that imports PyTorch and MONAI is busy for seconds before it does anything, and a table on a laptop is many
short ones. So one server of Python's own `multiprocessing` imports once, and each command is a fork of it.
"""

from __future__ import annotations

import atexit
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import IO, Protocol

import torch

from lap_monai.experiments.children import start_process

#: What a bundle run imports.
_PRELOADED = (
    *("lap_monai.commands.run", "lap_monai.experiments", "lap_monai.data", "lap_monai.handlers"),
    *("lap_monai.losses", "lap_monai.networks", "lap_monai.transforms", "lap_monai.reports"),
    *("monai.bundle", "monai.engines", "monai.networks.nets"),
)

_COMMAND = [sys.executable, "-m", "lap_monai"]


class Child(Protocol):
    """A process that was started, as far as a runner asks: what `subprocess.Popen` answers."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises:
            subprocess.TimeoutExpired: if it still runs after `timeout` seconds.
        """

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it still runs."""

    def kill(self) -> None:
        """End it at once."""


def start_command(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Child:
    """Start a process that writes its output to `log`, and ends when this one does (on Linux).

    `python -m lap_monai …` is forked from the server where that is safe: on Linux without a GPU, as CUDA does not
    survive a fork once an import asked it how many GPUs there are. Everything else starts from nothing.
    """
    if list(command[:3]) == _COMMAND and sys.platform.startswith("linux") and not torch.cuda.is_available():
        return _Forked(command[3:], environment, Path(log.name))
    return start_process(command, environment, log)


class _Forked:
    """A command in a fork of the server."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(list(_PRELOADED))
        args = (list(words), dict(environment), str(log.absolute()), str(Path.cwd()))
        self._process = context.Process(target=_be, args=args)
        with _environment(environment):  # the first one starts the server, whose libraries read it once
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(_COMMAND, timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _be(words: list[str], environment: dict[str, str], log: str, folder: str) -> None:
    """Be `python -m lap_monai WORDS` from here on."""
    os.setsid()  # Ctrl-C reaches the runner alone, which then ends its processes in order
    threading.Thread(target=_end_with_runner, daemon=True).start()
    _write_to(log)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS") or torch.get_num_threads()))
    sys.argv = ["lap_monai", *words]
    try:
        runpy.run_module("lap_monai", run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves without them


def _end_with_runner() -> None:
    runner = parent_process()
    assert runner is not None
    runner.join()  # the system closes a killed runner's end of a pipe; the server goes on while it has children
    os.kill(os.getpid(), signal.SIGTERM)


def _write_to(log: str) -> None:
    """Let everything that this process prints end in a file, at once."""
    number = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(number, stream)
    os.close(number)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    kept = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted.keys() - kept.keys():
            del os.environ[name]
        os.environ.update(kept)
