"""Processes that a runner starts, and questions about processes of earlier runners."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def start_process(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a process that writes its output to `log`, and ends when this one is killed (on Linux)."""
    return subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches the runner alone, which then ends its processes in order
        preexec_fn=_end_with_parent(),
    )


def process_identity(pid: int | None = None) -> dict[str, Any]:
    """Return what tells a process from all others: host, number, and on Linux when it began."""
    pid = os.getpid() if pid is None else pid
    return {"host": socket.gethostname(), "pid": pid, "began": _began(pid)}


def may_run(identity: Mapping[str, Any]) -> bool:
    """Whether a process may still be there. One of another host may always be."""
    if identity.get("host") != socket.gethostname():
        return True
    pid = int(identity["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and somebody else's
    began = _began(pid)
    # A number is given again after a while; a zombie counts as gone.
    return began != "gone" and (began is None or identity.get("began") in (None, began))


def _began(pid: int) -> str | None:
    """When a process began, in clock ticks after the start of the system; None where nobody can say."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        return "gone" if Path("/proc/self/stat").exists() else None
    except OSError:
        return None
    return "gone" if state == "Z" else fields[18]


def _end_with_parent() -> Any:
    """What a new process does first so that it does not outlive a runner that is killed outright; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None
    # SIGTERM, not SIGKILL: torchrun ends its workers, and a run records that it was interrupted.
    return lambda: prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM))
