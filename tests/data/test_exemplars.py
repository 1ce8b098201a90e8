"""Which real frames a method with a memory keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lap_monai.checks import UserError
from lap_monai.data import draw_exemplars, read_exemplars, write_exemplars


def rows(video: str, count: int) -> list[dict]:
    return [{"image": f"{video}_{i}.png", "label": "m.png", "video": video, "frame": i} for i in range(count)]


def vectors(*classes: set[int]) -> np.ndarray:
    """A class vector per frame: 1 for these channels, NaN for the background, 0 elsewhere."""
    return np.array([[np.nan, *(float(c in shown) for c in (1, 2, 3))] for shown in classes])


def test_every_class_gets_its_share_however_rare() -> None:
    frames = rows("a", 10)
    shown = vectors(*[{1}] * 8, {2}, {2, 3})
    kept = draw_exemplars(frames, shown, [], 4)
    classes = [set(row["exemplar_of"]) for row in kept]
    assert len(kept) == 4
    assert {0}.union(*classes) == {0, 1, 2}
    assert sum({0} == shown for shown in classes) == 2


def test_old_frames_make_room_for_new_ones_and_keep_their_classes() -> None:
    old = draw_exemplars(rows("a", 6), vectors(*[{1}] * 6), [], 4)
    kept = draw_exemplars(rows("b", 6), vectors(*[{2}] * 6), old, 4)
    assert sorted(row["video"] for row in kept) == ["a", "a", "b", "b"]
    assert {row["video"]: row["exemplar_of"] for row in kept} == {"a": [0], "b": [1]}


def test_the_choice_depends_on_names_and_seed_alone() -> None:
    frames, shown = rows("a", 20), vectors(*[{1}] * 20)
    kept = draw_exemplars(frames, shown, [], 5)
    assert draw_exemplars(frames[::-1], shown, [], 5) == kept
    assert draw_exemplars(frames, shown, [], 5, seed=1) != kept
    assert draw_exemplars(frames, shown, kept, 5) == kept


def test_frames_without_masks_or_classes_and_counts_out_of_range() -> None:
    frames = rows("a", 3)
    frames[0]["label"] = None
    kept = draw_exemplars(frames, vectors({1}, {1}, set()), [], 10)
    assert [row["frame"] for row in kept] == [1]
    assert draw_exemplars(frames, vectors({1}, {1}, set()), [], 0) == []
    with pytest.raises(UserError, match="exemplars=-1"):
        draw_exemplars(frames, vectors({1}, {1}, set()), [], -1)


def test_kept_frames_are_handed_on_as_a_file(tmp_path: Path) -> None:
    kept = draw_exemplars(rows("a", 3), vectors({1}, {2}, {3}), [], 2)
    assert read_exemplars(write_exemplars(tmp_path / "kept.json", kept)) == kept
    assert read_exemplars(None) == []
    with pytest.raises(UserError, match="cannot be read"):
        read_exemplars(tmp_path / "nothing.json")
    (tmp_path / "rows.json").write_text('[{"image": "a.png"}]')
    with pytest.raises(UserError, match="no list of kept frames"):
        read_exemplars(tmp_path / "rows.json")
