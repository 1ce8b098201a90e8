"""Commands that are ended with `kill -9`, or whose disk fails, at a chosen write, read or time.

A command runs in a fork of this process, which has imported everything and computed nothing, so that starting one costs
milliseconds. The processes that `table` and `stream` start are forks as well. An audit hook counts what all of them are
about to write below the run folder; the process that comes to the chosen write waits there for its end. The same hook
lets reading and writing fail as the system would: what a hook raises, the operation raises.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import signal
import struct
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import lap_monai.experiments.cell_process as cell_process
from lap_monai.__main__ import main
from lap_monai.experiments.children import _end_with_parent

#: Events of Python that change a folder, beside opening a file to write.
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_LISTINGS = {"os.listdir", "os.scandir"}
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
_NUMBERS = struct.Struct("qqq")
_TEXT = 400
#: Seconds after which a command counts as hanging; a busy machine is not to be mistaken for that.
_PATIENCE = 3600.0


class Watch:
    """Memory that forks share: how many writes there were, at which one to wait, who waits there."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _NUMBERS.size + _TEXT)

    def reset(self, wait_at: int = 0) -> None:
        """Begin to count anew; the process that is about to do write `wait_at`, from 1, waits to be killed."""
        self._memory[:] = _NUMBERS.pack(0, wait_at, 0) + bytes(_TEXT)

    @property
    def writes(self) -> int:
        """Writes so far."""
        return _NUMBERS.unpack_from(self._memory)[0]

    @property
    def waiting(self) -> int:
        """The process that waits; 0 if there is none."""
        return _NUMBERS.unpack_from(self._memory)[2]

    @property
    def operation(self) -> str:
        """What the waiting process was about to do."""
        return bytes(self._memory[_NUMBERS.size :]).rstrip(b"\0").decode(errors="replace")

    def release(self) -> None:
        """Let the process that waits, if it still can, go on."""
        writes, wait_at, _ = _NUMBERS.unpack_from(self._memory)
        _NUMBERS.pack_into(self._memory, 0, writes, wait_at, 0)

    def _note(self, operation: str) -> None:
        text = operation.encode()[:_TEXT]
        self._memory[_NUMBERS.size :] = text + bytes(_TEXT - len(text))

    def listen(self, folder: Path, fault: Fault | None = None) -> None:
        """Count what this process and its forks write below `folder`, from now on and for good; let some of it fail.

        The network is never there, and who reached for it is noted.
        """
        below = str(folder)

        def heard(event: str, arguments: tuple[Any, ...]) -> None:
            kind = _kind(event, arguments)
            if not kind:
                return
            if kind == "network":
                self._note(f"{event} {[part for part in arguments if isinstance(part, (str, bytes, int, tuple))]}")
                raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
            if kind == "write" and path.startswith(below):
                self._step(f"{event} {os.path.relpath(path, below)}")
            if fault is not None and fault.meets(kind, event, path, self):
                raise OSError(fault.number, os.strerror(fault.number), path)

        sys.addaudithook(heard)

    def _step(self, operation: str) -> None:
        writes, wait_at, waiting = _NUMBERS.unpack_from(self._memory)
        writes += 1
        if writes != wait_at or waiting:  # only one of several processes waits
            _NUMBERS.pack_into(self._memory, 0, writes, wait_at, waiting)
            return
        self._note(re.sub(r"\.[0-9a-f]{8}\.", ".", operation))  # without the random part of a name
        _NUMBERS.pack_into(self._memory, 0, writes, wait_at, os.getpid())
        while self.waiting:
            time.sleep(0.002)


def _kind(event: str, arguments: tuple[Any, ...]) -> str:
    """Whether an event of Python writes, reads or lists something, or reaches for the network; empty for all others."""
    if event in _NETWORK:  # a text is the address of a socket within this machine
        return "" if isinstance(arguments[-1], (str, bytes)) and event == "socket.connect" else "network"
    if event == "open":
        return "write" if isinstance(arguments[2], int) and arguments[2] & _TO_WRITE else "read"
    return "write" if event in _CHANGES else "list" if event in _LISTINGS else ""


@dataclass(frozen=True)
class Fault:
    """What the system refuses.

    Args:
        number: of the error, as in `errno`.
        folder: below which.
        kind: `"write"` (a file that is opened to be written, a new folder: the disk is full), `"read"` or `"list"`.
        first: the write of the command's from which on writes fail. Reads and listings fail whenever they are met.
        name: part of the name of the file or folder; empty for all.
    """

    number: int
    folder: Path
    kind: str
    first: int = 0
    name: str = ""

    def meets(self, kind: str, event: str, path: str, watch: Watch) -> bool:
        """Whether an operation fails."""
        if kind != self.kind or not path.startswith(str(self.folder)) or self.name not in path:
            return False
        return kind != "write" or (event in ("open", "os.mkdir") and watch.writes >= self.first)


@dataclass(frozen=True)
class Moment:
    """When a command is killed, and which of its processes.

    Args:
        write: just before this write, from 1; 0 if `seconds` counts.
        seconds: after the start.
        victim: `"all"` processes at once, as when a machine goes down; the `"runner"` alone, whose processes the system
            then tells to end; the `"cell"`, one of them, alone; or a `"worker"` of a loader, which writes nothing.
    """

    write: int = 0
    seconds: float = 0.0
    victim: str = "all"


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        killed: whether its moment came before its end.
        status: of the exit; negative for a signal.
        writes: how many there were.
        seconds: how long it took.
        operation: before which it was killed; empty if time decided. Of a command that was not killed, what it wanted
            of the network; empty if it wanted nothing.
    """

    killed: bool
    status: int
    writes: int
    seconds: float
    operation: str = ""


def run(
    words: Sequence[str],
    folder: Path,
    moment: Moment | None = None,
    fault: Fault | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a command of `python -m lap_monai` in a fork and kill it when its moment comes.

    Args:
        words: the command line.
        folder: whose writes count; its log is `<folder>.log`.
        moment: when to kill; None lets it end.
        fault: what fails; None for nothing.
        environment: variables on top of this process's.
    """
    watch = Watch()
    watch.reset(moment.write if moment else 0)
    start = time.monotonic()
    with folder.with_name(f"{folder.name}.log").open("ab") as log:
        process = Forked(words, {**os.environ, **(environment or {})}, log, lambda: watch.listen(folder, fault))
    killed = False
    while (status := process.poll()) is None:
        seconds = time.monotonic() - start
        if seconds > _PATIENCE:
            _kill([process.pid, *_descendants(process.pid)])
            raise TimeoutError(f"{' '.join(words)} hangs after {watch.writes} writes; see {folder.name}.log")
        due = moment is not None and (bool(watch.waiting) if moment.write else seconds > moment.seconds)
        if due and not killed:
            assert moment is not None
            killed = _strike(process.pid, watch.waiting, moment.victim)
            watch.release()
        time.sleep(0.002)
    # Of a command that came to its end in the very moment nobody was killed.
    return Ended(killed and status != 0, status, watch.writes, time.monotonic() - start, watch.operation)


def _strike(root: int, waiting: int, victim: str) -> bool:
    """Kill; return whether there was anybody to be killed."""
    others = list(_descendants(root))
    if victim == "worker":
        _kill(others[:1])
        return bool(others)
    if victim == "cell":
        if not others:
            if waiting:  # it is the runner itself that waits: there is no other to kill
                _kill([root])
            return bool(waiting)
        _kill([waiting if waiting in others else others[0]])
        if waiting and waiting not in others:
            _kill([root])
        return True
    os.kill(root, signal.SIGSTOP)  # it starts no further one
    others = list(_descendants(root))
    _kill([root, *others] if victim == "all" else [root])
    deadline = time.monotonic() + 120
    while any(_alive(pid) for pid in others) and time.monotonic() < deadline:
        time.sleep(0.01)
    return True


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _descendants(root: int) -> Iterator[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))) and fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    waiting = [root]
    while waiting:
        children = parents.get(waiting.pop(), [])
        yield from children
        waiting += children


def _alive(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def _stat(pid: int) -> list[str]:
    """State, parent and so on of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


class Forked:
    """A command in a fork, as far as it is asked what `subprocess.Popen` answers."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: IO[bytes], first: Any) -> None:
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(words, environment, log, first)

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self, timeout: float = _PATIENCE) -> int:
        """Wait for the end."""
        deadline = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self._status is not None, "it does not end"
        return self._status

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _become(words: Sequence[str], environment: Mapping[str, str], log: IO[bytes], first: Any) -> None:
    """Be the command; never return."""
    status = 70
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a runner's handler is not its cells'
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(environment)
        if first is not None:
            first()
        cell_process.start_command = _start_process
        status = main(list(words))
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _start_process(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Forked:
    """Start `python -m lap_monai …` of a runner as a fork of it; what a cell is told beforehand is told to it too."""
    return Forked(command[3:], environment, log, _end_with_parent())
