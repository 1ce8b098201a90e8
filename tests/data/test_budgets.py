from itertools import pairwise

import numpy as np
import pytest

from lap_monai.checks import UserError
from lap_monai.data import (
    UNITS,
    draw_budget,
    fingerprint,
    load_budget,
    lost_classes,
    plan_budget,
    row_id,
    write_budget,
)
from lap_monai.label_space import get_label_space


def make_rows(videos=6, clips=4, frames=20):
    return [
        {
            "image": f"/data/{v}_{c}_{f}.png",
            "label": f"/data/{v}_{c}_{f}_mask.png",
            "video": f"video{v:02d}",
            "clip": f"video{v:02d}_{c:05d}",
            "frame": 100 * c + f,
            "phase": None,
        }
        for v in range(videos)
        for c in range(clips)
        for f in range(frames)
    ]


ROWS = make_rows()
UNIT_KEYS = {"frame": row_id, "clip": lambda row: row["clip"], "video": lambda row: row["video"]}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.05, 0.1, 0.37, 1.0])
def test_whole_units_in_the_asked_share(unit, fraction):
    rows = draw_budget(ROWS, fraction, unit)
    unit_of = UNIT_KEYS[unit]
    total, drawn = {unit_of(row) for row in ROWS}, {unit_of(row) for row in rows}
    assert len(drawn) == max(1, int(fraction * len(total) + 0.5))
    assert rows == [row for row in ROWS if unit_of(row) in drawn]


@pytest.mark.parametrize("unit", UNITS)
def test_budgets_of_a_subset_are_nested_and_subsets_differ(unit):
    for subset in range(3):
        sizes = [set(plan_budget(ROWS, f, unit, subset).ids) for f in (0.01, 0.05, 0.1, 0.5, 1.0)]
        assert all(small <= large for small, large in pairwise(sizes))
        assert len(sizes[-1]) == len(ROWS)
    draws = {plan_budget(ROWS, 0.5, unit, subset).ids for subset in range(8)}
    assert len(draws) >= 6


def test_the_order_of_rows_and_the_folder_do_not_matter():
    moved = [{**row, "image": row["image"].replace("/data", "/elsewhere")} for row in ROWS[::-1]]
    assert set(plan_budget(ROWS, 0.1).ids) == set(plan_budget(moved, 0.1).ids)
    assert fingerprint(ROWS) == fingerprint(moved)
    assert fingerprint(ROWS) != fingerprint(ROWS[1:])


def test_frames_are_drawn_from_all_over():
    # 10 % of 480 frames from one of 6 videos only would need luck of 6^-47.
    assert len({row["video"] for row in draw_budget(ROWS, 0.1)}) == 6


def test_rows_without_masks_are_not_drawn():
    rows = [{**row, "label": None if row["frame"] % 2 else row["label"]} for row in ROWS]
    drawn = draw_budget(rows, 1.0)
    assert len(drawn) == len(ROWS) // 2
    assert all(row["label"] for row in drawn)
    with pytest.raises(UserError, match="no row has a mask"):
        draw_budget([{**row, "label": None} for row in ROWS], 0.5)


def test_files_round_trip_and_select(tmp_path):
    rows = draw_budget(ROWS, 0.05, "clip", subset=2, record=tmp_path / "budget.json")
    budget = load_budget(tmp_path / "budget.json")
    assert budget == plan_budget(ROWS, 0.05, "clip", 2)
    assert (budget.fraction, budget.unit, budget.subset, budget.total) == (0.05, "clip", 2, len(ROWS))
    assert budget.select(ROWS) == rows
    assert write_budget(tmp_path / "again.json", budget).read_text() == (tmp_path / "budget.json").read_text()


def test_another_data_set_is_refused():
    budget = plan_budget(ROWS, 0.1)
    with pytest.raises(UserError, match=r"drawn from 480 masked frames.*these are 479"):
        budget.select(ROWS[1:])


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_budget(tmp_path / "none.json")
    for content in ("{", "[]", "{}", '{"ids": 3}', '{"ids": [], "colour": 1}'):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(UserError, match="is no budget file"):
            load_budget(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0.0,), "above 0"), ((1.5,), "at most 1"), ((0.1, "patient"), "Unknown budget unit 'patient'")],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        plan_budget(ROWS, *arguments)


def test_lost_classes_are_named():
    space = get_label_space("endoscapes_7")
    histograms = np.zeros((len(ROWS), 256), dtype=np.int64)
    histograms[:, [0, 5]] = 100
    budget = plan_budget(ROWS, 0.01)
    outside = next(i for i, row in enumerate(ROWS) if row_id(row) not in budget.ids)
    inside = next(i for i, row in enumerate(ROWS) if row_id(row) in budget.ids)
    histograms[outside, [3, 4]] = 7
    histograms[inside, 4] = 1
    assert lost_classes(budget, ROWS, space, histograms) == ["Cystic Artery"]
    with pytest.warns(UserWarning, match="no pixel of Cystic Artery"):
        draw_budget(ROWS, 0.01, label_space=space, histograms=histograms)


def test_classes_that_no_training_frame_shows_are_named():
    space = get_label_space("endoscapes_7")
    histograms = np.zeros((len(ROWS), 256), dtype=np.int64)
    histograms[:, [0, 2, 3, 4, 6]] = 100
    with pytest.warns(UserWarning, match="no training frame shows Cystic Plate, Gallbladder; nothing"):
        draw_budget(ROWS, 0.5, label_space=space, histograms=histograms)
