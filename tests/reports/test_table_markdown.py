from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from table_results import CLASSES, results, row

from lap_monai.reports import render_markdown

METHODS = {"supervised": "Random", "dcl": "DCL"}

POOLED = (
    "Pooled IoU, mean over cells; ±: standard deviation over subsets (draws of the masks). "
    "– : no frame of the evaluated part shows the class."
)
EXPLAINED = (
    "Difference: mean over patients of the patient's mean IoU, each averaged over draws and seeds first. p: sign-flip "
    "permutation test over patients. Decided: p < 0.05 and neither interval contains 0, which takes "
    "6 patients and 5 draws."
)


def made(count: int = 2, subsets: int = 2, lift: float = 0.1, **changes: Any) -> dict[str, Any]:
    """A table of two methods at 10 %; the second is better everywhere, and nobody shows a grasper."""
    rows = [
        row(name, 0.1, subset, 0, {f"p{i}": [0.8 + up, 0.1 * i + 0.02 * subset + up, None] for i in range(count)})
        for name, up in (("supervised", 0.0), ("dcl", lift))
        for subset in range(subsets)
    ]
    return results(rows, METHODS, repetitions=subsets, **changes)


def test_golden() -> None:
    """The whole text, its numbers worked out from the rows: p0 and p1, subsets 0 and 1."""
    liver = np.array([np.mean([0.0, 0.1]), np.mean([0.02, 0.12])])
    sd = liver.std(ddof=1)
    means = (0.8 + liver) / 2

    def scores(up: float) -> str:
        return (
            f"{0.8 + up:.3f} ± 0.000 | {liver.mean() + up:.3f} ± {sd:.3f} | – | "
            f"{means.mean() + up:.3f} ± {means.std(ddof=1):.3f}"
        )

    assert (
        render_markdown(made())
        == f"""# made_up

Made by hand.

Label space `three`, scored on own/test; budgets are shares of the frames; 4 of 4 cells done.

## IoU by class

| Method | Masks | Background | Liver | Grasper | Mean | Cells |
| --- | --- | --- | --- | --- | --- | --- |
| Random | 5 % | missing | missing | missing | missing | 0/2 |
| Random | 10 % | {scores(0.0)} | 2/2 |
| DCL | 5 % | missing | missing | missing | missing | 0/2 |
| DCL | 10 % | {scores(0.1)} | 2/2 |

{POOLED}

## Comparisons of the mean IoU, paired by patient

| Method | than | Masks | Difference | 95 %, patients | 95 %, patients and draws | Draws | p | Verdict |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| DCL | Random | 10 % | +0.100 | 2 patients; a test or an interval needs 5 |  | 2 of 2 higher | – | not decided |

{EXPLAINED}
"""
    )


def test_published_values_stand_beside_ours_and_by_themselves() -> None:
    everything = {name: [0.5, 0.01] for name in CLASSES}
    published = {
        "source": "A. Nonymous",
        "rows": [
            {"method": "dcl", "budget": 0.1, "iou": everything},
            {"method": "byol", "budget": 0.01, "iou": {"Liver": [0.25, None]}},
        ],
    }
    lines = render_markdown(made(published=published)).splitlines()
    ours = next(place for place, line in enumerate(lines) if line.startswith("| DCL | 10 %"))
    assert lines[ours + 1] == f"| DCL (published) | 10 % |{' 0.500 ± 0.010 |' * 3} 0.500 |  |"
    assert "| byol (published) | 1 % |  | 0.250 |  |  |  |" in lines
    assert "Published: A. Nonymous." in "\n".join(lines)


def test_a_missing_cell_shows_in_the_count_and_by_name() -> None:
    not_done = [
        {
            "method": "dcl",
            "budget": 0.1,
            "subset": 2,
            "seed": 0,
            "fold": None,
            "status": "failed",
            "reason": "no | masks",
        }
    ]
    text = render_markdown(made(subsets=2, not_done=not_done) | {"repetitions": 3})
    assert "4 of 5 cells done" in text
    assert "2/3" in text
    assert "- dcl 10 % subset 2 seed 0 failed: no | masks" in text


def test_warnings_name_their_cells() -> None:
    content = made()
    content["rows"][0]["warnings"] = "the budget holds no pixel of Liver"
    assert "- the budget holds no pixel of Liver: supervised 10 % subset 0 seed 0" in render_markdown(content)


def test_a_verdict_is_said_with_its_numbers() -> None:
    text = render_markdown(made(count=8, subsets=5))
    assert (
        "| DCL | Random | 10 % | +0.100 | 0.100 to 0.100 | 0.100 to 0.100 | 5 of 5 higher | 0.00781 | **better** |"
        in text
    )
    assert "- Liver, 10 %: DCL **better** than Random by +0.100 (0.100 to 0.100, p 0.0156, 8 patients)" in text
    assert "Of 1 tests, chance alone" in text


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_spread_behind_plus_minus_is_named(seeds: int) -> None:
    rows = [row("a", 0.1, 0, seed, {"p0": [0.5 + 0.1 * seed, 0.2, 0.1]}) for seed in range(seeds)]
    text = render_markdown(results(rows, {"a": "A"}))
    assert ("over seeds" in text.split("##")[1]) == (seeds > 1)
    assert ("one repetition each, so no spread" in text) == (seeds == 1)
