from __future__ import annotations

from lap_monai.flatten import flatten


def test_levels_are_joined_by_dots_and_leaves_stay() -> None:
    nested = {"seed": 0, "weights": {"dcl": 0.1, "more": {"x": [1, 2]}}, "empty": {}, "none": None}
    assert flatten(nested) == {"seed": 0, "weights.dcl": 0.1, "weights.more.x": [1, 2], "empty": {}, "none": None}
    assert nested["weights"] == {"dcl": 0.1, "more": {"x": [1, 2]}}
