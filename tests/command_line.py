"""The command line in this process, on a network of a few thousand weights: what it returned, printed and left."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.utils import set_determinism

from lap_monai.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / "bundles" / "cholecseg8k_contrastive" / "configs"

FEATURES = [4, 8, 8, 16, 16, 4]

#: Overlay that makes a training on a tiny phantom a matter of a second.
TINY: dict[str, Any] = {
    "frame_size": [32, 48],
    "window": [32, 32],
    "overlap": 0,
    "backbone_def#features": FEATURES,
    "embedding_dim": 8,
    "epochs": 2,
    "steps_per_epoch": 2,
    "masked_per_batch": 2,
    "label_only_per_batch": 2,
    "budget": 0.5,
    "num_workers": 0,
    "device": "$torch.device('cpu')",
}


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a failed command printed; fails if there is more, or less, or a traceback anywhere."""
        assert self.status == 1, (self.status, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in self.out
        return lines[0]


class CommandLine:
    """Runs commands; a training gets the tiny overlay, a cache of its own and a run folder."""

    def __init__(self, folder: Path, data: Path, read_output: Callable[[], Any]) -> None:
        self.folder, self.data, self.read_output = folder, data, read_output
        self.cache = folder / "cache"
        self.out = folder / "out"
        self.overlay = folder / "tiny.json"
        self.overlay.write_text(json.dumps(TINY))

    def __call__(self, *words: object) -> Outcome:
        """Run a command."""
        self.read_output()
        with undone():
            status = main([str(word) for word in words])
        return Outcome(status, *self.read_output())

    def words(
        self, *words: object, overlays: Sequence[Path] = (), data: Path | None = None, out: Path | None = None
    ) -> list[str]:
        """The words of a tiny training."""
        files = [CONFIGS / "train.json", CONFIGS / "phantom.json", self.overlay, *overlays]
        places = [f"cache_dir={self.cache}", "--data", data or self.data, "--out", out or self.out]
        return [str(word) for word in ("run", *files, *places, *words)]

    def train(self, *words: object, **places: Any) -> Outcome:
        """Run a tiny training."""
        return self(*self.words(*words, **places))

    def evaluate(self, *words: object, **places: Any) -> Outcome:
        """Run the evaluation of a tiny training."""
        return self.train(*words, overlays=[CONFIGS / "evaluate.json"], **places)

    def infer(self, frames: Path, models: Path, *words: object) -> Outcome:
        """Run the inference with the weights of a tiny training."""
        network = [f"network_def#features={FEATURES}", "frame_size=[32,48]", "window=[32,32]", "device=cpu"]
        places = [f"ckpt_dir={models}", f"output_dir={self.folder / 'labels'}", "--data", frames]
        return self("run", CONFIGS / "inference.json", *network, *places, *words)


@contextmanager
def undone() -> Iterator[None]:
    """Take back what a bundle's run turns on for its whole process: logging, seeds, determinism."""
    before = {name: (logger.level, logger.handlers[:]) for name, logger in loggers()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        set_determinism(None)
        for name, logger in loggers():  # the run's handlers hold an output that is closed when the test ends
            level, logger.handlers[:] = before.get(name, (logging.NOTSET, []))
            logger.setLevel(level)


def loggers() -> list[tuple[str, logging.Logger]]:
    """Every logger there is, the root included, by name."""
    return [(name, logging.getLogger(name)) for name in ("", *logging.root.manager.loggerDict)]


def tree(folder: Path) -> set[str]:
    """Files below a folder, without the locks of the frame cache, which hold nothing."""
    if not folder.exists():
        return set()
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {path for path in paths if not path.endswith(".lock")}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {name: (folder / name).read_bytes() for name in tree(folder)}


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The network of a checkpoint."""
    return torch.load(path, weights_only=True)["model"]


def assert_same_network(first: Path, second: Path) -> None:
    """Fail if two checkpoints hold networks that differ in a bit."""
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    if different:
        pytest.fail(f"the networks differ in {different}")
