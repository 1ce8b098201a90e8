"""`kill -9` at two moments of every long command, in short: `make test-faults COUNT=50` does it at length."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from kill_and_resume import kill_and_resume
from kill_tasks import Task, fingerprint, prepare

TASKS = ("train", "table", "stream", "generate", "predict")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def tasks(place: Path) -> dict[str, Task]:
    return prepare(place, short=True)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("name", TASKS)
def test_a_command_that_is_killed_ends_as_if_nothing_had_been(
    tasks: dict[str, Task], place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tiny run would be over before its first checkpoint.
    monkeypatch.setattr("lap_monai.inference.run.CHECKPOINT_SECONDS", 0.0)
    report = kill_and_resume(tasks[name], place, count=2, seed=1, kills_per_run=2)
    assert len(report.kills) >= 2
    assert report.files >= len(tasks[name].results)
    assert report.different == []


def test_the_comparison_sees_a_bit(tmp_path: Path) -> None:
    """Lest the test above passes for want of eyes."""
    path = tmp_path / "model.pt"
    state = {"model": {"weight": torch.zeros(3)}, "epoch": 3}
    prints = set()
    for change in range(4):
        if change == 1:
            state["model"]["weight"][1] = 1e-45
        elif change == 2:
            state["epoch"] = 4
        elif change == 3:
            state["model"]["weight"] = state["model"]["weight"].double()
        torch.save(state, path)
        prints.add(fingerprint(path))
    assert len(prints) == 4
    record = tmp_path / "history.json"
    record.write_text('[{"loss": 0.1, "seconds": 3}]')
    first = fingerprint(record)
    record.write_text('[{"loss": 0.1, "seconds": 4}]')
    assert fingerprint(record) == first
    record.write_text('[{"loss": 0.10000000000000002, "seconds": 3}]')
    assert fingerprint(record) != first
