from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from table_results import CLASSES, row

from lap_monai.experiments.statistics import compare_rows, spread, summarise_rows


def patients(count: int, lift: float = 0.0, **changes: list[float | None]) -> dict[str, list[float | None]]:
    """`count` patients of different scores, all of them higher by `lift`."""
    made: dict[str, list[float | None]] = {
        f"p{i}": [0.8 + lift, 0.1 * (i % 4) + lift, 0.3 + lift] for i in range(count)
    }
    return {**made, **changes}


def grid(method: str, lift: float, count: int, subsets: int = 5, seeds: int = 1, noise: float = 0.02) -> list[dict]:
    generator = np.random.default_rng(len(method))
    return [
        row(method, 0.1, subset, seed, patients(count, lift + noise * generator.standard_normal()))
        for subset, seed in product(range(subsets), range(seeds))
    ]


def test_spreads_over_subsets_and_over_seeds_are_two_things() -> None:
    scores = np.array([[0.2, 0.4], [0.6, 0.9], [0.1, 0.1]])  # subsets by seeds
    rows = [{"subset": i, "seed": j, "fold": None, "miou": scores[i, j]} for i in range(3) for j in range(2)]
    found = spread(rows, lambda row: row["miou"])
    assert found["mean"] == pytest.approx(scores.mean())
    assert found["sd_over_subsets"] == pytest.approx(scores.mean(1).std(ddof=1))
    within = [sum((value - subset.mean()) ** 2 for value in subset) / (len(subset) - 1) for subset in scores]
    assert found["sd_over_seeds"] == pytest.approx((sum(within) / 3) ** 0.5)
    assert found["sd_over_folds"] is None
    assert (found["n"], found["n_null"]) == (6, 0)


def test_one_repetition_has_no_spread_and_an_absent_class_no_mean() -> None:
    rows = [{"subset": 0, "seed": 0, "fold": None, "miou": 0.3}]
    found = spread(rows, lambda row: row["miou"])
    assert (found["mean"], found["sd_over_subsets"], found["sd_over_seeds"]) == (0.3, None, None)
    assert spread(rows, lambda row: None) == {
        "mean": None,
        "sd_over_subsets": None,
        "sd_over_seeds": None,
        "sd_over_folds": None,
        "n": 0,
        "n_null": 1,
    }


def test_a_summary_has_every_method_at_every_budget_even_without_cells() -> None:
    summary = summarise_rows(grid("a", 0, 6), ["a", "b"], [0.05, 0.1], CLASSES)
    assert [(entry["method"], entry["budget"], entry["n_cells"]) for entry in summary] == [
        ("a", 0.05, 0),
        ("a", 0.1, 5),
        ("b", 0.05, 0),
        ("b", 0.1, 0),
    ]
    assert summary[0]["miou"]["mean"] is None
    assert summary[1]["per_patient"]["n_patients"] == 6
    low, high = summary[1]["per_patient"]["interval"]
    assert low < summary[1]["per_patient"]["miou"] < high


@pytest.mark.parametrize(("lift", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "not decided")])
def test_a_verdict_takes_a_clear_difference(lift: float, verdict: str) -> None:
    rows = grid("a", 0, 8) + grid("method", lift, 8)
    (found,) = compare_rows(rows, ["a", "method"], [0.1], CLASSES, "a")
    assert (found["method"], found["than"], found["verdict"]) == ("method", "a", verdict)
    assert found["difference"] == pytest.approx(lift, abs=0.04)
    assert found["pooled_difference"] == pytest.approx(found["difference"])
    assert (found["n_patients"], found["n_draws"]) == (8, 5)


def test_two_patients_or_two_draws_decide_nothing() -> None:
    for count, subsets, reason in ((2, 5, "test"), (8, 2, "interval_with_draws")):
        rows = grid("a", 0, count, subsets) + grid("method", 0.3, count, subsets)
        (found,) = compare_rows(rows, ["a", "method"], [0.1], CLASSES, "a")
        assert found["verdict"] == "not decided"
        assert reason in found["reasons"]


def test_seeds_are_averaged_before_patients_are_compared() -> None:
    rows = grid("a", 0, 8, seeds=3) + grid("method", 0.1, 8, seeds=3)
    (found,) = compare_rows(rows, ["a", "method"], [0.1], CLASSES, "a")
    assert (found["n_patients"], found["n_draws"]) == (8, 5)


def test_only_repetitions_that_both_have_are_compared() -> None:
    first, second = grid("a", 0, 8, noise=0), grid("method", 0.1, 8, noise=0)
    second[0]["per_video"]["videos"] = row("x", 0.1, 0, 0, patients(8, -0.3))["per_video"]["videos"]
    (found,) = compare_rows(first[1:] + second, ["a", "method"], [0.1], CLASSES, "a")
    assert found["n_draws"] == 4
    assert found["difference"] == pytest.approx(0.1)
    assert compare_rows(first[:1] + second[1:], ["a", "method"], [0.1], CLASSES, "a") == []


def test_a_class_that_few_patients_show_is_tested_on_them_alone_and_not_counted_by_holm() -> None:
    def shown(lift: float) -> dict:
        made = patients(8, lift)
        return {name: [*values[:2], values[2] if name in ("p0", "p1") else None] for name, values in made.items()}

    rows = [row(name, 0.1, i, 0, shown(lift)) for name, lift in (("a", 0.0), ("b", 0.1)) for i in range(5)]
    (found,) = compare_rows(rows, ["a", "b"], [0.1], CLASSES, "a")
    assert found["classes"]["Grasper"]["n_patients"] == 2
    assert found["classes"]["Grasper"]["verdict"] == "not decided"
    assert found["classes"]["Grasper"]["p_holm"] is None
    smallest = 2 / 2**8
    assert found["classes"]["Liver"]["p_holm"] == pytest.approx(2 * smallest)
    assert found["classes"]["Liver"]["verdict"] == "better"


def test_all_pairs_are_compared_those_with_the_reference_first() -> None:
    rows = [entry for name in ("a", "b", "c") for entry in grid(name, 0, 6)]
    pairs = [(found["method"], found["than"]) for found in compare_rows(rows, ["a", "b", "c"], [0.1], CLASSES, "b")]
    assert pairs == [("a", "b"), ("c", "b"), ("c", "a")]
