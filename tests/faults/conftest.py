"""Tiny runs of the real commands, made once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kill_and_resume import run_whole
from kill_tasks import Task, prepare
from killing import Ended

Whole = Callable[[str], tuple[Path, Ended]]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where data, configs and runs lie."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def tasks(place: Path) -> dict[str, Task]:
    """The commands, by name."""
    return prepare(place, short=True)


@pytest.fixture(scope="session")
def whole(tasks: dict[str, Task], place: Path) -> Whole:
    """A function that gives the folder and the end of an undisturbed run of a task; not to be changed."""
    made: dict[str, tuple[Path, Ended]] = {}

    def whole(name: str) -> tuple[Path, Ended]:
        if name not in made:
            made[name] = run_whole(tasks[name], place)
        return made[name]

    return whole


@pytest.fixture(autouse=True)
def every_frame_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny prediction would be over before its first checkpoint."""
    monkeypatch.setattr("lap_monai.inference.run.CHECKPOINT_SECONDS", 0.0)
