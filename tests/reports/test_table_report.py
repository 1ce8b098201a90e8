from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_results import CLASSES, results, row

from lap_monai.label_space import LabelSpace
from lap_monai.reports import Panel, write_table_report
from lap_monai.reports.table_charts import budget_chart, difference_chart

HOSTILE = "<script>alert(1)</script>"
COLOURS = ((127, 127, 127), (255, 0, 0), (0, 255, 0))
SPACE = LabelSpace("three", "own", CLASSES, COLOURS, {0: 0, 1: 1, 2: 2}, (), "made up")


def made(labels: dict[str, str], **changes: Any) -> dict[str, Any]:
    rows = [
        row(name, budget, subset, 0, {f"p{i}": [0.8, 0.1 * i + up, 0.3] for i in range(6)})
        for name, up in zip(labels, (0.0, 0.1), strict=True)
        for subset in range(5)
        for budget in (0.05, 0.1)
    ]
    return results(rows, labels, **changes)


def page(tmp_path: Path, content: dict[str, Any], panels: list[Panel] | None = None) -> str:
    return write_table_report(tmp_path / "report.html", content, SPACE, panels or []).read_text(encoding="utf-8")


def test_one_file_that_loads_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, made({"a": "A", "b": "B"}))
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_shows_methods_verdicts_and_missing_cells(tmp_path: Path) -> None:
    not_done = [
        {"method": "b", "budget": 0.1, "subset": 7, "seed": 0, "fold": None, "status": "failed", "reason": "no masks"}
    ]
    text = page(tmp_path, made({"a": "Random", "b": "DCL"}, not_done=not_done))
    assert "b 10 % subset 7 seed 0: failed, no masks" in text
    assert text.count("better") > 2
    assert "DCL" in text
    assert "20</b> of 21 cells done" in text


def test_names_are_escaped(tmp_path: Path) -> None:
    text = page(tmp_path, made({"a": HOSTILE, "b": "B"}, description=HOSTILE))
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text


def test_panels_show_every_method(tmp_path: Path) -> None:
    grid = np.zeros((8, 12), np.uint8)
    panel = Panel("frame_1", "p0", np.zeros((8, 12, 3), np.uint8), grid, {"a": grid + 1, "b": grid + 2})
    text = page(tmp_path, made({"a": "A", "b": "B"}), [panel])
    assert re.findall(r'alt="([^"]+)"', text) == [f"{what} of frame_1" for what in ("Frame", "Truth", "A", "B")]


def test_nothing_done_yet_is_a_page_too(tmp_path: Path) -> None:
    assert "missing" in page(tmp_path, results([], {"a": "A", "b": "B"}))


def test_curves_rise_with_the_score_and_go_right_with_the_budget() -> None:
    chart = budget_chart("x", {"a": [(0.01, 0.2, None, None), (0.1, 0.6, 0.5, 0.7)]})
    (left, low), (right, high) = chart["curves"][0]["dots"]
    assert left < right
    assert low > high, "SVG counts downwards"
    ((_, lower), (_, upper)), *others = chart["curves"][0]["whiskers"]
    assert lower > high > upper
    assert not others
    assert [text for _, text in chart["x_ticks"]] == ["1 %", "10 %"]


def test_budgets_stand_in_proportion() -> None:
    places = [x for x, _ in budget_chart("x", {"a": [(b, 0.5, None, None) for b in (0.01, 0.1, 1.0)]})["x_ticks"]]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])


def test_no_points_no_curves() -> None:
    assert budget_chart("x", {"a": []})["curves"] == []


def test_differences_stand_on_their_side_of_zero() -> None:
    chart = difference_chart([("up", 0.1, (0.05, 0.2), "better"), ("down", -0.1, None, "not decided")])
    up, down = chart["rows"]
    assert down["dot"] < chart["zero"] < up["whisker"][0] < up["dot"] < up["whisker"][1]
    assert down["whisker"] is None
    assert up["y"] < down["y"] < chart["plot"].height
