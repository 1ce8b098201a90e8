"""Making one cell: its processes one after the other, each with a log and a record of how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from lap_monai.experiments.children import process_identity
from lap_monai.experiments.durations import duration
from lap_monai.experiments.step import EVALUATE, Step, Work
from lap_monai.experiments.step_state import cell_warnings, read_state, step_done, write_state
from lap_monai.experiments.warm_process import Child, start_command
from lap_monai.files import read_json, write_json

#: Seconds that a process gets to end by itself after SIGTERM.
_GRACE = 30.0

#: How warnings begin that tell something about a cell rather than about a library.
_TELLING = ("the budget", "no training frame", "split ", "the synthetic images")


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: `"done"`, `"warned"` or `"failed"`, why, and after how long."""

    status: str
    reason: str = ""
    seconds: float = 0.0


class Running(Protocol):
    """A cell that is being made."""

    def poll(self) -> Outcome | None:
        """Return the outcome once there is one; to be called again and again."""

    def stop(self) -> None:
        """End it as soon as possible, resumable."""


class CellProcess:
    """Run the steps of a cell that are not done yet, as `python -m lap_monai run` processes.

    Args:
        cell: the cell.
        data: the data set's folder; None where the steps' own configs name all that they may read.
        environment: of the processes.
        processes: of a training; more than one is started by torchrun.
        extras: `"train"` or `"evaluate"` → overlays and KEY=VALUE words that change no outcome, for such processes of
            the overlays' own bundle.
        busy: folders in which somebody trains; shared by the cells of a runner.
        say: takes a line after each step.
    """

    def __init__(
        self,
        cell: Work,
        data: Path | None,
        environment: Mapping[str, str],
        processes: int = 1,
        extras: Mapping[str, Sequence[str]] | None = None,
        busy: set[Path] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.cell, self.data, self.environment = cell, data, environment
        self.processes, self.extras = processes, dict(extras or {})
        self.busy = set() if busy is None else busy
        self.say = say
        self._waiting = list(cell.steps)
        self._step: Step | None = None
        self._process: Child | None = None
        self._log: IO[bytes] | None = None
        self._log_start = 0
        self._clock = self._began = time.monotonic()

    def poll(self) -> Outcome | None:
        """Start the next step if none runs; return the outcome after the last one or after a failure."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return None
            reason = self._finish(code)
            if reason:
                return Outcome("failed", reason, time.monotonic() - self._began)
        while self._waiting and step_done(self._waiting[0]):
            self._waiting.pop(0)
        if not self._waiting:
            for path in self.cell.spare:
                path.unlink(missing_ok=True)
            warnings = cell_warnings(self.cell)
            status = "warned" if warnings else "done"
            return Outcome(status, "; ".join(warnings), time.monotonic() - self._began)
        if self._waiting[0].folder not in self.busy:
            self._start(self._waiting.pop(0))
        return None

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL to what is still there half a minute later."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._step is not None:
            self.busy.discard(self._step.folder)

    def _start(self, step: Step) -> None:
        step.folder.mkdir(parents=True, exist_ok=True)
        for name, content in step.settings.items():
            write_json(step.folder / name, content)
        self.busy.add(step.folder)
        self._step, self._clock = step, time.monotonic()
        self._log = (step.folder / f"log_{step.name}.txt").open("ab")
        self._log_start = self._log.tell()
        self._process = start_command(self.command(step), self.environment, self._log)
        write_state(
            step, "running", process=process_identity(self._process.pid), seconds=read_state(step).get("seconds", 0)
        )

    def command(self, step: Step) -> list[str]:
        """Return the command line of a step."""
        start = [sys.executable, "-m"]
        if self.processes > 1 and step.name != EVALUATE:
            start += ["torch.distributed.run", "--standalone", f"--nproc_per_node={self.processes}", "-m"]
        files = [str(path) for path in step.configs]
        extras = self.extras.get(EVALUATE if step.name == EVALUATE else "train", ())
        if extras and Path(extras[0]).parent != step.configs[0].parent:
            extras = ()  # the run of another bundle
        if step.name == EVALUATE:
            files += extras  # they build on what the evaluation's overlays declare
        else:
            files[-1:-1] = extras
        data = [] if self.data is None else ["--data", str(self.data)]
        return [*start, "lap_monai", "run", *files, "--out", str(step.folder), *data]

    def _finish(self, code: int) -> str:
        """Record how the running step ended; return the reason of a failure, empty if there was none."""
        step, self._step, self._process = self._step, None, None
        assert step is not None
        assert self._log is not None
        self._log.close()
        self.busy.discard(step.folder)
        lines = self._output(step)
        seconds = read_state(step).get("seconds", 0) + time.monotonic() - self._clock
        if code == 0:
            write_state(step, "done", seconds=round(seconds, 1), warnings=[*_telling(lines), *_no_positives(step)])
            if self.say is not None:
                self.say(f"{self.cell.name}: {step.folder.name} {step.name} done in {duration(seconds)}")
            return ""
        reason = _reason(code, lines)
        write_state(step, "failed", seconds=round(seconds, 1), reason=reason, warnings=_telling(lines))
        return reason

    def _output(self, step: Step) -> list[str]:
        with (step.folder / f"log_{step.name}.txt").open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace").splitlines()


def environment(jobs: int, slot: int, processes: int = 1) -> dict[str, str]:
    """Return the environment of the cells in one of `jobs` slots: a fair share of the cores, one of the GPUs.

    Args:
        jobs: how many cells run at the same time.
        slot: which of them, from 0.
        processes: of a training.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = int(os.environ.get("OMP_NUM_THREADS") or cores)
    chosen = {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // (jobs * processes))), "PYTHONUNBUFFERED": "1"}
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if len(visible) >= jobs * processes > 1:
        chosen["CUDA_VISIBLE_DEVICES"] = ",".join(visible[slot * processes : (slot + 1) * processes])
    return chosen


def _reason(code: int, lines: list[str]) -> str:
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if code < 0:
        hint = " (by the system, if memory ran out)" if -code == signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{hint}"
    last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing was printed")
    return f"exit status {code}: {last[:300]}"


def _telling(lines: list[str]) -> list[str]:
    said = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
    return list(dict.fromkeys(text for text in said if text.startswith(_TELLING)))


def _no_positives(step: Step) -> list[str]:
    """Say so if a training with contrast never met two frames that are positives of each other."""
    try:
        history, record = read_json(step.folder / "history.json"), read_json(step.folder / "run.json")
        shares = [row["without_positive"] for row in history if "without_positive" in row]
        contrast = record["settings"].get("dcl_weight")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
    if step.name == EVALUATE or not contrast or not shares or min(shares) < 1:
        return []
    return ["no image ever met a positive in its batch, so the contrast taught nothing; use larger batches"]
