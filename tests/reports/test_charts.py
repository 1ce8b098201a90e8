from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from lap_monai.reports import Embedding
from lap_monai.reports.charts import best_epoch, curves, heat_map, line_chart, principal_components, scatter


def points(line: str) -> list[tuple[float, ...]]:
    return [tuple(float(number) for number in pair.split(",")) for pair in line.split()]


def test_a_curve_rises_to_the_right_inside_its_plot() -> None:
    chart = line_chart("x", [1, 2, 3], [0.1, 0.2, 0.9])
    (line,) = chart["lines"]
    across, down = zip(*points(line), strict=True)
    assert list(across) == sorted(across)
    assert list(down) == sorted(down, reverse=True)
    plot = chart["plot"]
    assert across[0] >= plot.left
    assert across[-1] <= plot.width - plot.right
    assert down[-1] >= plot.top
    assert down[0] <= plot.height - plot.bottom


def test_values_that_are_not_numbers_leave_a_gap() -> None:
    chart = line_chart("x", range(1, 7), [1.0, 2.0, None, float("nan"), 4.0, 5.0])
    assert [len(points(line)) for line in chart["lines"]] == [2, 2]
    assert chart["last"] == 5.0


@pytest.mark.parametrize("values", [[], [None], [float("nan")], [3.0], [3.0, 3.0], [0.0, 0.0], [float("inf")]])
def test_degenerate_curves_are_drawable(values: list) -> None:
    chart = line_chart("x", range(len(values)), values)
    for line in chart["lines"]:
        assert np.isfinite(points(line)).all()


def test_a_validation_every_other_epoch_is_one_line() -> None:
    history = [{"epoch": e, "loss": 1.0} | ({"val_mean_iou": 0.1 * e} if e % 2 == 0 else {}) for e in range(1, 9)]
    (chart,) = curves(history)["scores"]
    assert [len(points(line)) for line in chart["lines"]] == [4]
    assert chart["best"] == (8, pytest.approx(0.8))


def test_columns_find_their_group() -> None:
    row = {"epoch": 1, "seconds": 2.0, "lr": 0.1, "loss": 1.0, "dcl": 2.0, "val_mean_iou": 0.3, "val_iou/Liver": 0.4}
    groups = {name: [chart["name"] for chart in charts] for name, charts in curves([row]).items()}
    assert groups == {"terms": ["loss", "dcl"], "scores": ["val_mean_iou"], "class_scores": ["Liver"]}


def test_the_first_of_equal_epochs_is_the_best() -> None:
    assert best_epoch([1, 2, 3], [0.2, 0.5, 0.5]) == (2, 0.5)
    assert best_epoch([1], [None]) is None


def test_components_equal_scikit_learn() -> None:
    data = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    flat, explained = principal_components(data)
    reference = PCA(2).fit(data)
    np.testing.assert_allclose(np.abs(flat), np.abs(reference.transform(data)), atol=1e-9)
    np.testing.assert_allclose(explained, reference.explained_variance_ratio_)


@pytest.mark.parametrize("shape", [(1, 4), (5, 1), (2, 3)])
def test_few_vectors_or_dimensions_are_drawable(shape: tuple[int, int]) -> None:
    drawn = scatter("x", Embedding(np.ones(shape), ["a"] * shape[0]))
    assert len(drawn["dots"]) == shape[0]
    assert np.isfinite(drawn["dots"]).all()


def test_rare_groups_share_a_colour_and_points_are_thinned() -> None:
    groups = [f"g{i}" for i in range(10) for _ in range(20 - i)]
    drawn = scatter("x", Embedding(np.random.default_rng(0).random((len(groups), 3)), groups), limit=50)
    assert [name for name, _, _ in drawn["legend"]] == [*(f"g{i}" for i in range(7)), "others"]
    assert sum(count for _, _, count in drawn["legend"]) == drawn["count"] == len(groups)
    assert len(drawn["dots"]) == 50


def test_rows_of_the_heat_map_are_shares_of_the_truth() -> None:
    heat = heat_map([[3, 1], [0, 0]], ["a", "b"])
    assert heat["rows"][0]["shares"] == [0.75, 0.25]
    assert heat["rows"][1]["shares"] is None
