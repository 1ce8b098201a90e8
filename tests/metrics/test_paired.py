from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from lap_monai.metrics import holm, paired_difference, patient_interval, sign_flip_p


def draws(*patients: float, count: int = 5, noise: float = 0.0) -> np.ndarray:
    """The same scores of the patients in each of `count` draws, plus noise."""
    return np.tile(patients, (count, 1)) + np.random.default_rng(0).normal(0, noise, (count, len(patients)))


@pytest.mark.parametrize("differences", [[0.1, 0.2, -0.05, 0.3, 0.02], [-0.3, -0.1, 0.05, -0.2, -0.25, -0.02, -0.01]])
def test_sign_flip_equals_going_through_all_signs(differences: list[float]) -> None:
    means = [np.mean(np.array(signs) * differences) for signs in itertools.product((1, -1), repeat=len(differences))]
    expected = np.mean(np.abs(means) >= abs(np.mean(differences)) - 1e-12)
    assert sign_flip_p(np.array(differences)) == pytest.approx(expected)


def test_sign_flip_of_one_sided_ranks_equals_wilcoxon() -> None:
    """All differences on one side are the most extreme case for both."""
    differences = np.array([0.1, 0.2, 0.3, 0.15, 0.05, 0.07])
    assert sign_flip_p(differences) == pytest.approx(wilcoxon(differences, method="exact").pvalue)


def test_sign_flip_of_many_patients_is_near_the_exact_one() -> None:
    differences = np.random.default_rng(1).normal(0.3, 1, 16)
    signs = np.array(list(itertools.product((1, -1), repeat=16)))
    expected = np.mean(np.abs((signs * differences).mean(1)) >= abs(differences.mean()) - 1e-12)
    assert sign_flip_p(differences) == pytest.approx(expected, abs=0.02)


def test_no_difference_at_all_is_the_surest_chance() -> None:
    assert sign_flip_p(np.zeros(6)) == 1.0


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=9))
def test_holm_rejects_as_the_step_down_procedure_does(p_values: list[float | None]) -> None:
    adjusted = holm(p_values)
    known = sorted(p for p in p_values if p is not None)
    for level in (0.01, 0.05, 0.3):
        rejected = 0
        while rejected < len(known) and known[rejected] <= level / (len(known) - rejected):
            rejected += 1
        threshold = known[rejected - 1] if rejected else -1.0
        for p, corrected in zip(p_values, adjusted, strict=True):
            if p is None:
                assert corrected is None
            elif abs(p * len(known) - level) > 1e-9:
                assert p <= corrected <= 1.0
                if abs((corrected or 0) - level) > 1e-12:
                    assert (corrected <= level) == (p <= threshold)


def test_patient_interval_equals_a_loop() -> None:
    values = np.array([0.1, 0.4, 0.35, 0.8, 0.55, 0.2])
    generator = np.random.default_rng(5)
    means = [np.mean([values[generator.integers(6)] for _ in range(6)]) for _ in range(4000)]
    np.testing.assert_allclose(patient_interval(values, resamples=4000), np.quantile(means, [0.025, 0.975]), atol=0.02)


def test_a_constant_gain_is_that_gain() -> None:
    base = draws(0.2, 0.4, 0.5, 0.7, 0.3, 0.6)
    found = paired_difference(base + 0.1, base)
    assert found.difference == pytest.approx(0.1)
    assert found.interval == pytest.approx((0.1, 0.1))
    assert found.interval_with_draws == pytest.approx((0.1, 0.1))
    assert found.p == pytest.approx(2 / 2**6)
    assert (found.n_patients, found.n_draws, found.draws_better, found.reasons) == (6, 5, 5, {})


def test_swapping_the_methods_swaps_the_signs() -> None:
    one, other = draws(0.2, 0.4, 0.5, 0.7, 0.3, noise=0.1), draws(0.25, 0.3, 0.5, 0.9, 0.4, noise=0.05)
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p == pytest.approx(back.p)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_more_draws_are_no_more_patients() -> None:
    base = draws(0.2, 0.4, 0.5, 0.7, 0.3, 0.6)
    gain = np.array([0.1, -0.1, 0.2, 0.05, 0.0, 0.1])
    few, many = (paired_difference(np.tile(base + gain, (n, 1)), np.tile(base, (n, 1))) for n in (1, 20))
    assert few.p == pytest.approx(many.p)
    assert few.interval == pytest.approx(many.interval)
    assert many.n_draws == 20 * few.n_draws


def test_draws_that_disagree_widen_the_interval_over_draws_only() -> None:
    base = draws(0.2, 0.4, 0.5, 0.7, 0.3, 0.6)
    swings = np.array([0.3, -0.2, 0.3, -0.2, 0.05])[:, None]
    found = paired_difference(base + swings, base)
    assert found.interval[1] - found.interval[0] == pytest.approx(0, abs=1e-9)
    assert found.interval_with_draws[0] < 0 < found.interval_with_draws[1]
    assert found.draws_better == 3


@pytest.mark.parametrize("unscored", [[], [(0, 1), (3, 1), (3, 5)]], ids=["all scored", "some lack the class"])
def test_crossed_interval_equals_a_loop(unscored: list[tuple[int, int]]) -> None:
    generator = np.random.default_rng(3)
    both = generator.normal(0.02, 0.1, (6, 7))
    for place in unscored:
        both[place] = np.nan
    means = []
    for _ in range(3000):
        rows, columns = generator.integers(6, size=6), generator.integers(7, size=7)
        patients = [[both[r, c] for r in rows if np.isfinite(both[r, c])] for c in columns]
        means.append(np.mean([np.mean(scores) for scores in patients if scores]))
    found = paired_difference(both, np.zeros_like(both), resamples=3000)
    np.testing.assert_allclose(found.interval_with_draws, np.quantile(means, [0.025, 0.975]), atol=0.01)


def test_two_patients_get_no_test_and_a_reason() -> None:
    found = paired_difference(draws(0.5, 0.6), draws(0.1, 0.2))
    assert found.difference == pytest.approx(0.4)
    assert (found.p, found.interval, found.interval_with_draws) == (None, None, None)
    assert found.reasons == {"test": "2 patients; a test or an interval needs 5"}


def test_few_draws_get_no_interval_over_draws_and_a_reason() -> None:
    found = paired_difference(draws(*range(6), count=4), draws(*range(6), count=4))
    assert found.interval is not None
    assert found.interval_with_draws is None
    assert found.reasons == {"interval_with_draws": "4 draws; an interval over them needs 5"}


def test_patients_without_the_class_do_not_count() -> None:
    one, other = draws(0.2, 0.4, 0.5, 0.7, 0.3, np.nan), draws(0.1, 0.3, 0.4, 0.6, 0.2, np.nan)
    found = paired_difference(one, other)
    assert (found.n_patients, found.n_draws) == (5, 5)
    assert found.difference == pytest.approx(0.1)
    nobody = paired_difference(np.full((2, 3), np.nan), np.full((2, 3), np.nan))
    assert (nobody.n_patients, nobody.difference) == (0, None)


def test_unequal_shapes_are_a_bug() -> None:
    with pytest.raises(ValueError, match="draws, patients"):
        paired_difference(np.zeros((2, 3)), np.zeros((3, 2)))
