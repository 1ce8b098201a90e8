"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from command_line import CommandLine

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Let Ctrl-C interrupt: a shell ignores the signal for what it starts in the background, and for its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Compute with one thread, so that sums are added in one order in every process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of research-only data sets, or a skip where it is not at hand."""
    folder = Path(os.environ.get("LAP_MONAI_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "endoscapes_seg50").is_dir():
        pytest.skip(f"no real data in LAP_MONAI_DATA or {folder.name}/ beside the checkout")
    return folder


@pytest.fixture(scope="session")
def tiny_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four operations of four frames, 96x64, in CholecSeg8k's layout; not to be changed."""
    from lap_monai.data import write_phantom

    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", videos=4, frames=4, clips=2, size=(96, 64))


@pytest.fixture
def cli(tmp_path: Path, tiny_phantom: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line, in this process and in a folder of its own."""
    from command_line import CommandLine

    return CommandLine(tmp_path, tiny_phantom, capsys.readouterr)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_phantom: Path) -> Path:
    """The run folder of a tiny training of two epochs; not to be changed."""
    from command_line import CommandLine

    training = CommandLine(tmp_path_factory.mktemp("tiny_run"), tiny_phantom, lambda: ("", ""))
    assert training.train().status == 0
    return training.out
