"""`run.json`: what was run, from what, how it ended."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from lap_monai.files import read_json, write_json
from lap_monai.handlers.on_exception import on_exception
from lap_monai.provenance import command_line, device_name, git_revision, versions

FILE_NAME = "run.json"


class RunRecord:
    """Write `run.json` into the run folder when an engine starts, and its status when the engine ends.

    The status is `running`, then `completed`, `failed` (with the error in one line) or `interrupted` (Ctrl-C,
    SIGTERM). A process that was killed outright stays `running`; the next run in the folder lists it under `earlier` as
    `unfinished`. While the engine runs, SIGTERM ends it as Ctrl-C does, so that a scheduler's stop leaves a record.
    Only rank 0 writes.

    Args:
        output_dir: the run folder.
        settings: what the run's configuration decided: seed, budget, loss weights.
        split: names of the videos in each part.
        fingerprint: what identifies the data, for example `rows_fingerprint(rows)`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.path = Path(output_dir) / FILE_NAME
        self.settings = dict(settings or {})
        self.split = dict(split or {})
        self.fingerprint = fingerprint
        self.record: dict[str, Any] = {}
        self._clock = 0.0
        self._old_signal: Any = None

    def attach(self, engine: Engine) -> None:
        """Record the runs of `engine`."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._note_epoch)
        engine.add_event_handler(Events.COMPLETED, self.end, "completed")
        on_exception(engine, self._end_with)

    def start(self, engine: Engine) -> None:
        """Write the record with status `running`."""
        self._begin(engine)
        self._write()
        self._catch_sigterm()

    def _begin(self, engine: Engine) -> None:
        self._clock = time.monotonic()
        self.record = {
            "status": "running",
            "start": _now(),
            "end": None,
            "seconds": None,
            "epoch": engine.state.epoch,
            "max_epochs": engine.state.max_epochs,
            "error": None,
            "command": command_line(),
            "device": device_name(getattr(engine.state, "device", None)),
            "processes": idist.get_world_size(),
            "versions": versions(),
            "git": git_revision(),
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "split": self.split,
            "earlier": self._earlier(),
        }

    def end(self, engine: Engine, status: str, error: BaseException | None = None) -> None:
        """Write the final status."""
        if not self.record:  # a handler before this one ended the run at its start
            self._begin(engine)
        seconds = round(time.monotonic() - self._clock, 1)
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000] if error is not None else None
        self.record.update(status=status, end=_now(), seconds=seconds, epoch=engine.state.epoch, error=text)
        self._release_sigterm()
        self._write()

    def _end_with(self, engine: Engine, error: BaseException) -> None:
        self.end(engine, "failed" if isinstance(error, Exception) else "interrupted", error)

    def _note_epoch(self, engine: Engine) -> None:
        self.record["epoch"] = engine.state.epoch
        self._write()

    def _write(self) -> None:
        if idist.get_rank() == 0:
            write_json(self.path, self.record)

    def _earlier(self) -> list[dict[str, Any]]:
        """The runs that used this folder before, oldest first."""
        try:
            last = read_json(self.path)
        except (OSError, ValueError):
            return []
        if last["status"] == "running":
            last["status"] = "unfinished"
        kept = ("status", "start", "end", "epoch", "error", "command", "git")
        return [*last.get("earlier", []), {key: last.get(key) for key in kept}]

    def _catch_sigterm(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._old_signal = signal.signal(signal.SIGTERM, _exit)

    def _release_sigterm(self) -> None:
        if self._old_signal is not None:
            signal.signal(signal.SIGTERM, self._old_signal)
            self._old_signal = None


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
