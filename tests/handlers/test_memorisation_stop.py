from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ignite.engine import Engine
from tiny_data import picture

from lap_monai.handlers import MemorisationStop
from lap_monai.replay import MemorisationAudit

SIZE = (48, 64)


@pytest.fixture(scope="module")
def audit() -> MemorisationAudit:
    training, held_out = ([picture(seed, SIZE) for seed in seeds] for seeds in (range(4), range(100, 160)))
    return MemorisationAudit(training, held_out, list("abcde") * 12, level=0.02)


class Generator:
    """Draws noise until an epoch, from then on its training frames."""

    def __init__(self, copies_from: int) -> None:
        self.copies_from, self.epoch, self.seeds = copies_from, 0, []

    def __call__(self, seeds: list[int]) -> np.ndarray:
        self.seeds.append(seeds)
        if self.epoch >= self.copies_from:
            return np.stack([picture(seed % 4, SIZE) for seed in seeds])
        return np.stack([np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8) for seed in seeds])


def train(tmp_path: Path, audit: MemorisationAudit, generator: Generator, epochs: int, **settings: Any) -> Engine:
    def step(engine: Engine, _batch: Any) -> None:
        generator.epoch = engine.state.epoch

    engine = Engine(step)
    MemorisationStop(tmp_path, generator, audit, **{"images": 4, "interval": 2} | settings).attach(engine)
    engine.run([0, 1], max_epochs=epochs)
    return engine


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return json.loads((tmp_path / "memorisation.json").read_text())


def test_stops_when_the_generator_copies(
    tmp_path: Path, audit: MemorisationAudit, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        engine = train(tmp_path, audit, Generator(copies_from=5), epochs=20, limit=0.5)
    assert engine.state.epoch == 6  # the first audit after it began
    found = rows(tmp_path)
    assert [row["epoch"] for row in found] == [2, 4, 6]
    assert [row["share"] for row in found] == [0, 0, 1]
    assert found[-1]["flagged"] == 4
    assert found[-1]["nearest"] < 1e-5 < found[0]["nearest"]
    assert "100 % of the generator's images are memorised" in caplog.text


def test_goes_on_while_it_does_not_and_audits_the_last_epoch(tmp_path: Path, audit: MemorisationAudit) -> None:
    generator = Generator(copies_from=99)
    assert train(tmp_path, audit, generator, epochs=5).state.epoch == 5
    assert [row["epoch"] for row in rows(tmp_path)] == [2, 4, 5]
    assert generator.seeds == [[0, 1, 2, 3]] * 3


def test_the_limit_is_borne_and_a_second_run_replaces_the_rows_it_repeats(
    tmp_path: Path, audit: MemorisationAudit
) -> None:
    train(tmp_path, audit, Generator(copies_from=0), epochs=4, limit=1)
    assert [row["share"] for row in rows(tmp_path)] == [1, 1]
    train(tmp_path, audit, Generator(copies_from=99), epochs=3)
    assert [(row["epoch"], row["share"]) for row in rows(tmp_path)] == [(2, 0), (3, 0)]


def test_odd_settings_are_refused(tmp_path: Path, audit: MemorisationAudit) -> None:
    for settings in ({"images": 0}, {"interval": 0}, {"limit": 2}):
        with pytest.raises(ValueError, match="MemorisationStop"):
            train(tmp_path, audit, Generator(0), epochs=1, **settings)
