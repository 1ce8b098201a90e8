from __future__ import annotations

import json

import numpy as np
import pytest

from lap_monai.metrics import FrameScores, frame_miou, iou, summarise

CLASSES = ("background", "liver", "duct")


@pytest.fixture
def frames() -> FrameScores:
    """Two patients; nobody has a duct, though one frame predicts one."""
    matrices = np.array(
        [
            [[5, 1, 0], [2, 8, 0], [0, 0, 0]],
            [[9, 0, 1], [0, 0, 0], [0, 0, 0]],
            [[4, 4, 0], [4, 4, 0], [0, 0, 0]],
        ]
    )
    nsd = np.array([[0.5, 1.0, np.nan], [1.0, np.nan, 0.0], [0.0, 0.5, np.nan]])
    return FrameScores(matrices, ("p1", "p1", "p2"), ("f1", "f2", "f3"), (4, 4), nsd, 2.0)


def test_the_row_is_json_and_absent_classes_are_null_skipped_and_counted(frames: FrameScores) -> None:
    row = json.loads(json.dumps(summarise(frames, CLASSES), allow_nan=False))
    assert row["iou"]["duct"] is None
    assert row["absent"] == ["duct"]
    assert row["n_present"] == 2
    assert row["miou"] == pytest.approx(np.mean([18 / 30, 12 / 23]))
    assert row["frames_with_class"] == {"background": 3, "liver": 2, "duct": 0}
    assert (row["n_frames"], row["n_videos"], row["size"]) == (3, 2, [4, 4])


def test_a_false_alarm_counts_in_its_frame(frames: FrameScores) -> None:
    row = summarise(frames, CLASSES)
    assert row["per_image"]["iou"]["duct"] == 0
    assert row["per_image"]["n_scored"]["duct"] == 1
    assert frame_miou(frames)[1] == pytest.approx((9 / 10 + 0) / 2)


def test_per_video_holds_each_patient(frames: FrameScores) -> None:
    videos = summarise(frames, CLASSES)["per_video"]["videos"]
    assert set(videos) == {"p1", "p2"}
    assert videos["p2"]["iou"]["liver"] == pytest.approx(4 / 12)
    assert videos["p1"]["n_frames"] == 2
    np.testing.assert_allclose(videos["p1"]["iou"]["liver"], iou(frames.matrices[:2])[1])


def test_nsd_states_its_tolerance_and_how_many_frames_it_rests_on(frames: FrameScores) -> None:
    nsd = summarise(frames, CLASSES)["nsd"]
    assert nsd["tolerance_px"] == 2.0
    assert nsd["per_image"] == {"background": 0.5, "liver": 0.75, "duct": 0.0}
    assert nsd["n_scored"] == {"background": 3, "liver": 2, "duct": 1}


def test_intervals_say_why_there_are_none(frames: FrameScores) -> None:
    intervals = summarise(frames, CLASSES)["intervals"]
    assert intervals["miou"] is None
    assert "2 patients" in intervals["reasons"]["miou"]
    assert "duct" in intervals["reasons"]


def test_frames_must_be_complete() -> None:
    with pytest.raises(ValueError, match="one entry per frame"):
        FrameScores(np.zeros((2, 3, 3)), ("a",), ("x", "y"), (4, 4))
