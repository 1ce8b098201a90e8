"""`kill -9` at a moment or two of every long command; `make test-faults COUNT=50` does it at length."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kill_and_resume import kill_and_resume
from kill_tasks import Task, fingerprint

Whole = Callable[[str], Any]

TASKS = ("train", "table", "stream", "generate", "predict", "predict_video")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and looks for processes in /proc")
@pytest.mark.parametrize("name", TASKS)
def test_a_command_that_is_killed_ends_as_if_nothing_had_been(
    tasks: dict[str, Task], place: Path, whole: Whole, name: str
) -> None:
    count = {"generate": 2, "predict": 2, "predict_video": 4}.get(name, 1)
    report = kill_and_resume(tasks[name], place, whole(name), count, seed=1)
    assert len(report.kills) >= count
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
