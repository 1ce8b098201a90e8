"""Measures of incremental learning against loops that follow their definitions word by word, and on cases by hand."""

from __future__ import annotations

import math
from statistics import mean

import numpy as np
import pytest

from lap_monai.metrics import (
    backward_transfer,
    forgetting_from_best,
    forgetting_from_first,
    group_means,
    harmonic_mean,
    incremental_summary,
    plasticity,
    score_matrix,
    step_summary,
)

NAN = math.nan

#: Background, two base classes, then one class a step, and two in the last.
ARRIVAL = [0, 0, 0, 1, 2, 3, 3]


@pytest.fixture
def matrix() -> np.ndarray:
    """Random scores, class 2 missing in the evaluated set; also numbers where nothing may look: before arrivals."""
    scores = np.random.default_rng(3).uniform(0, 1, (4, 7))
    scores[:, 2] = np.nan
    return scores


def known(values: list[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def test_group_means_equal_a_loop(matrix: np.ndarray) -> None:
    for background in (False, True):
        found = group_means(matrix, ARRIVAL, background)
        for t in range(4):
            members: dict[str, list[float]] = {"base": [], "new": [], "all": []}
            for c, came in enumerate(ARRIVAL):
                if came <= t and (c > 0 or background):
                    members["base" if came == 0 else "new"].append(matrix[t, c])
                    members["all"].append(matrix[t, c])
            for name, values in members.items():
                expected = mean(known(values)) if known(values) else NAN
                np.testing.assert_allclose(found[name][t], expected)
    assert math.isnan(group_means(matrix, ARRIVAL)["new"][0])


def test_forgetting_and_plasticity_equal_a_loop(matrix: np.ndarray) -> None:
    joint = np.random.default_rng(4).uniform(0, 1, 7)
    best, first = forgetting_from_best(matrix, ARRIVAL), forgetting_from_first(matrix, ARRIVAL)
    learnt = plasticity(matrix, ARRIVAL, joint)
    for c, came in enumerate(ARRIVAL):
        last = matrix[3, c]
        from_best = max(matrix[t, c] for t in range(came, 3)) - last if came < 3 else NAN
        np.testing.assert_allclose(best[c], from_best)
        np.testing.assert_allclose(first[c], matrix[came, c] - last if came < 3 else NAN)
        np.testing.assert_allclose(learnt[c], matrix[came, c] - joint[c] if came > 0 else NAN)


def test_backward_transfer_equals_a_loop(matrix: np.ndarray) -> None:
    changes = []
    for step in range(3):
        own = [c for c, came in enumerate(ARRIVAL) if came == step and c > 0]
        now, then = known([matrix[3, c] for c in own]), known([matrix[step, c] for c in own])
        changes.append(mean(now) - mean(then))
    np.testing.assert_allclose(backward_transfer(matrix, ARRIVAL), mean(changes))


def test_by_hand() -> None:
    matrix = [[0.9, 0.5, NAN, NAN], [0.8, 0.7, 0.4, NAN], [0.6, 0.3, 0.6, 0.5]]
    arrival = [0, 0, 1, 2]
    np.testing.assert_allclose(forgetting_from_best(matrix, arrival), [0.3, 0.4, -0.2, NAN])
    np.testing.assert_allclose(forgetting_from_first(matrix, arrival), [0.3, 0.2, -0.2, NAN])
    assert backward_transfer(matrix, arrival) == pytest.approx((-0.2 + 0.2) / 2)
    np.testing.assert_allclose(plasticity(matrix, arrival, [1, 1, 0.5, 0.4]), [NAN, NAN, -0.1, 0.1])
    last = step_summary(matrix, arrival)[-1]
    assert last["base"] == pytest.approx(0.3)
    assert last["new"] == pytest.approx(0.55)
    assert last["base_with_background"] == pytest.approx(0.45)
    assert last["all_with_background"] == pytest.approx(0.5)
    assert last["harmonic_mean"] == pytest.approx(2 * 0.3 * 0.55 / 0.85)
    assert last["background"] == pytest.approx(0.6)


def test_a_class_of_the_last_step_cannot_have_been_forgotten() -> None:
    summary = incremental_summary([[0.9, 0.5]], [0, 0], ("background", "liver"))
    assert summary["forgetting_from_best"] == {"mean": None, "classes": {"background": None, "liver": None}}
    assert summary["backward_transfer"] is None
    assert summary["plasticity"] is None
    assert summary["final"]["new"] is None
    assert summary["final"]["harmonic_mean"] is None


def test_means_of_forgetting_leave_the_background_out() -> None:
    summary = incremental_summary([[1.0, 0.5, NAN], [0.0, 0.25, 0.5]], [0, 0, 1], ("b", "x", "y"), joint=[0, 0, 0.25])
    assert summary["forgetting_from_first"] == {"mean": 0.25, "classes": {"b": 1.0, "x": 0.25, "y": None}}
    assert summary["plasticity"] == {"mean": 0.25, "classes": {"b": None, "x": None, "y": 0.25}}


def test_nothing_forgotten_is_zero_and_learning_on_is_negative() -> None:
    same = np.tile([0.5, 0.5, 0.5], (3, 1))
    assert forgetting_from_best(same, [0, 0, 1]).tolist() == [0, 0, 0]
    rising = np.linspace(0.1, 0.9, 9).reshape(3, 3)
    assert (forgetting_from_best(rising, [0, 0, 1]) < 0).all()
    assert backward_transfer(rising, [0, 0, 1]) > 0


def test_harmonic_mean() -> None:
    np.testing.assert_allclose(harmonic_mean([0.4, 0, 0, NAN], [0.4, 0.9, 0, 0.3]), [0.4, 0, 0, NAN])


def test_matrix_of_rows() -> None:
    rows = [{"b": 0.5, "x": None}, {"b": 0.25, "x": 1.0, "other": 0.1}]
    np.testing.assert_array_equal(score_matrix(rows, ("b", "x", "y")), [[0.5, NAN, NAN], [0.25, 1, NAN]])
    assert score_matrix([], ("b", "x")).shape == (0, 2)


@pytest.mark.parametrize(
    ("matrix", "arrival"),
    [([[0.5, 0.5]], [0]), ([0.5], [0]), ([[0.5, 0.5]], [0, 1]), ([[0.5, 0.5]], [1, 0]), (np.zeros((0, 2)), [0, 0])],
)
def test_shapes_and_arrivals_that_do_not_fit(matrix: list, arrival: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        forgetting_from_first(matrix, arrival)
