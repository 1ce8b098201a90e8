from __future__ import annotations

import numpy as np
import pytest

from lap_monai.reports import Example, ExampleKeeper

BLANK = np.zeros((1, 1), np.uint8)


def example(score: float) -> Example:
    return Example(f"{score:.4f}", "v", score, np.zeros((1, 1, 3), np.uint8), BLANK, BLANK)


@pytest.mark.parametrize("count", [40, 1000])
def test_best_worst_and_median_are_what_they_say(count: int) -> None:
    scores = np.random.default_rng(0).permutation(count) / count
    keeper = ExampleKeeper(3, sample=16)
    for score in scores:
        keeper.add(example(float(score)))
    chosen = {group: [kept.score for kept in frames] for group, frames in keeper.chosen().items()}
    assert chosen["best"] == sorted(scores)[:-4:-1]
    assert chosen["worst"] == sorted(scores)[:3][::-1]
    np.testing.assert_allclose(chosen["median"], 0.5, atol=0.15)


def test_memory_is_bounded() -> None:
    keeper = ExampleKeeper(2, sample=8)
    for i in range(500):
        keeper.add(example(i / 500))
        assert len(keeper._spread) < 16


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_few_frames_are_shown_once(count: int) -> None:
    keeper = ExampleKeeper(3)
    for i in range(count):
        keeper.add(example(i / 10))
    shown = [kept.name for frames in keeper.chosen().values() for kept in frames]
    assert len(shown) == len(set(shown)) == count


def test_frames_without_a_score_are_passed_over() -> None:
    keeper = ExampleKeeper()
    keeper.add(example(float("nan")))
    assert not any(keeper.chosen().values())
