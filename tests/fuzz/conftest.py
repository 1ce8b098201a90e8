"""How long the fuzzing takes, and what every input must keep to.

A short form runs with all other tests: `LAP_MONAI_FUZZ=2000 python -m pytest tests/fuzz` tries 2000 inputs each.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from lap_monai.checks import UserError

_EXAMPLES = int(os.environ.get("LAP_MONAI_FUZZ", "0"))
_CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
settings.register_profile(
    "short", max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=_CHECKS
)
settings.register_profile("long", max_examples=max(1, _EXAMPLES), deadline=None, suppress_health_check=_CHECKS)
settings.load_profile("long" if _EXAMPLES else "short")

#: Seconds of the processor that one input may take.
PATIENCE = 20.0
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}


class WriteWatch:
    """What this process writes while somebody watches. An audit hook stays for good, so there is one for all tests."""

    def __init__(self) -> None:
        self.written: list[str] | None = None
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.written is None:
            return
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & _TO_WRITE
        # `shutil.rmtree` names what it removes relative to an open folder, which is the last argument.
        changed = event == "os.truncate" or (event in _CHANGES and arguments[-1] == -1)
        if (opened or changed) and isinstance(arguments[0], (str, bytes, os.PathLike)):
            self.written.append(os.path.abspath(os.fsdecode(arguments[0])))


@pytest.fixture(scope="session")
def write_watch() -> WriteWatch:
    return WriteWatch()


Survives = Callable[..., Any]


@pytest.fixture
def survives(write_watch: WriteWatch) -> Survives:
    """A context in which nothing but a `UserError` may arise, in bounded time, writing below one folder.

    Temporary folders of this package count as allowed; they are its own, and new.
    """

    @contextmanager
    def survives(*folders: Path) -> Iterator[None]:
        write_watch.written = []
        clock = time.process_time()
        try:
            with suppress(UserError):
                yield
        finally:
            written, write_watch.written = write_watch.written, None
        assert time.process_time() - clock < PATIENCE
        allowed = [str(folder.resolve()) for folder in folders]
        outside = [
            path
            for path in written or []
            if not path.startswith((*allowed, "/dev/")) and "lap_monai_" not in path and "__pycache__" not in path
        ]
        assert not outside, f"written outside: {outside}"

    return survives
