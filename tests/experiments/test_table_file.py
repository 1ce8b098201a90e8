from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lap_monai.checks import UserError
from lap_monai.experiments.table import AXES
from lap_monai.experiments.table_file import load_table
from lap_monai.label_space import get_label_space

TABLES = sorted((Path(__file__).resolve().parents[2] / "configs" / "tables").glob("*.yaml"))


def test_says_what_the_file_says(make_table: Any) -> None:
    table = make_table()
    assert [row.name for row in table.rows] == ["supervised", "dcl", "frozen"]
    assert [row.label for row in table.rows] == ["Random", "dcl", "frozen"]
    assert [stage.name for stage in table.rows[2].stages] == ["pretrain", "finetune"]
    assert table.rows[2].stages[0].per == ("seed",)
    assert table.rows[2].stages[1].per == AXES
    assert table.rows[0].stages[0].overlays[0].name == "supervised.json"
    assert (table.reference, table.unit, table.budgets) == ("supervised", "frame", (0.05, 0.1))


def test_all_methods_and_budgets_come_before_a_repetition(make_table: Any) -> None:
    places = [(at.budget, at.subset, at.seed) for at in make_table().coordinates()]
    assert places[:3] == [(0.05, 0, 0), (0.1, 0, 0), (0.05, 0, 1)]
    assert len(places) == len(set(places)) == 8


def test_splits_are_an_axis(make_table: Any) -> None:
    names = [at.name for at in make_table(splits=["zhang_1", "zhang_2"], seeds=[0], subsets=[0]).coordinates()]
    assert names == ["0.05_0_0_zhang_1", "0.1_0_0_zhang_1", "0.05_0_0_zhang_2", "0.1_0_0_zhang_2"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": [0.1]}, "has a key 'budget', which tables do not have. Did you mean 'budgets'?"),
        ({"rows": {"dcl": {"overlay": ["dcl.json"]}}}, "Did you mean 'overlays'?"),
        ({"rows": {"dcl": {"stages": [{"name": "a", "setings": {}}]}}}, "Did you mean 'settings'?"),
        ({"published": {"source": "x", "row": {}}}, "Did you mean 'rows'?"),
        ({"rows": {}}, "one row at least"),
        ({"rows": {"a/b": {}}}, "becomes a folder"),
        ({"rows": {"dcl": {"overlays": ["dlc.json"]}}}, "no config 'dlc.json'. Did you mean 'dcl.json'?"),
        ({"rows": {"a": {"overlays": ["dcl.json"]}, "b": {"overlays": ["dcl.json"]}}}, "'a' and 'b' are the same runs"),
        ({"rows": {"a": {"label": "x"}, "b": {"label": "x", "overlays": ["dcl.json"]}}}, "have the same label 'x'"),
        ({"rows": {"a": {"overlays": [], "stages": [{"name": "b"}]}}}, "stand in its stages"),
        ({"rows": {"a": {"stages": [{"name": "b"}, {"name": "b"}]}}}, "two stages are called 'b'"),
        ({"rows": {"a": {"stages": [{"name": "b", "per": ["seed"]}]}}}, "depends on all axes"),
        ({"rows": {"a": {"stages": [{"name": "b", "uses": {"x": "c/y"}}]}}}, "Unknown earlier stage"),
        ({"rows": {"a": {"stages": [{"name": "b", "uses": {"x": "y"}}]}}}, "write STAGE/FILE"),
        ({"budgets": [0.1, 0.1]}, "budgets lists 0.1 twice"),
        ({"seeds": [1, 2, 1]}, "seeds lists 1 twice"),
        ({"budgets": [5]}, "must be above 0 and at most 1"),
        ({"budgets": []}, "budgets must be a list"),
        ({"subsets": [True]}, "subsets must be a list of whole numbers"),
        ({"unit": "frames"}, "Did you mean 'frame'?"),
        ({"settings": {"seed": 3}}, "'seed' is what cells differ in"),
        ({"settings": {"split": "x"}, "splits": ["zhang_1"]}, "'split' is what cells differ in"),
        ({"reference": "supervized"}, "Did you mean 'supervised'?"),
        ({"bundle": "nowhere"}, "no such bundle"),
        ({"bundle": "x" * 5000}, "no such bundle"),
        ({"rows": {"a": {"overlays": ["x" * 5000]}}}, "no config 'xxx"),
        ({"name": None}, "lacks name"),
        (
            {"published": {"source": "x", "rows": {"a": {0.1: {"Liver": "high"}}}}},
            "must be a number or [value, spread]",
        ),
    ],
)
def test_refuses_and_names(make_table: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refusal:
        make_table(**changes)
    assert said in str(refusal.value)
    assert "small.yaml" in str(refusal.value)


def test_a_row_twice_is_refused_although_yaml_would_take_it(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("name: t\nrows:\n  dcl: {}\n  dcl: {label: other}\n", encoding="utf-8")
    with pytest.raises(UserError, match="'dcl' stands twice"):
        load_table(tmp_path / "t.yaml")


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No table"):
        load_table(tmp_path / "absent.yaml")
    (tmp_path / "t.yaml").write_text("- a\n- b\n", encoding="utf-8")
    with pytest.raises(UserError, match="not one mapping"):
        load_table(tmp_path / "t.yaml")
    (tmp_path / "t.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read"):
        load_table(tmp_path / "t.yaml")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_committed_tables_are_sound(path: Path) -> None:
    table = load_table(path)
    assert table.name == path.stem
    assert table.expected_time != "not stated"
    assert set(table.published) <= {row.name for row in table.rows}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "cholecseg8k_table1",
            {
                "supervised": (0.389, 0.519, 0.452),
                "simclr": (0.400, 0.456, 0.513),
                "dcl": (0.425, 0.506, 0.537),
                "cls": (0.408, 0.478, 0.562),
                "dcl+cls": (0.436, 0.517, 0.566),
            },
        ),
        (
            "cholecseg8k_table2",
            {"simclr_2stage": (0.510,), "byol_2stage": (0.512,), "dcl_2stage": (0.516,), "dcl+cls_2stage": (0.517,)},
        ),
    ],
)
def test_published_values_have_the_papers_means(name: str, expected: dict[str, tuple[float, ...]]) -> None:
    """The means were computed from the paper by somebody else."""
    table = load_table(next(path for path in TABLES if path.stem == name))
    classes = get_label_space("cholecseg8k_zhang8").classes
    for row, budgets in table.published.items():
        assert all(tuple(values) == classes for values in budgets.values())
        means = [np.mean([value for value, _ in budgets[budget].values()]) for budget in table.budgets]
        np.testing.assert_allclose(means, expected[row], atol=6e-4)
