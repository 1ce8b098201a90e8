from __future__ import annotations

import numpy as np
import pytest

from lap_monai.metrics import bootstrap_iou, iou, miou


def video_matrices(hits: list[int], total: int = 100) -> np.ndarray:
    """One frame a video, two classes; `hits` of `total` pixels of class 1 are found, the rest called class 0."""
    return np.array([[[500, 0], [total - h, h]] for h in hits])


def test_equals_a_loop_that_pools_drawn_videos() -> None:
    matrices = video_matrices([10, 40, 60, 80, 95, 30])
    videos = list("abcdef")
    found = bootstrap_iou(matrices, videos, resamples=4000, seed=3)
    generator = np.random.default_rng(99)
    scores = [iou(matrices[generator.integers(0, 6, 6)]) for _ in range(4000)]
    expected = np.quantile(np.array(scores), [0.025, 0.975], axis=0)
    np.testing.assert_allclose(found.iou[1], expected[:, 1], atol=0.03)
    np.testing.assert_allclose(found.miou, np.quantile(np.mean(scores, 1), [0.025, 0.975]), atol=0.02)


def test_equal_videos_give_an_interval_without_width() -> None:
    matrices = video_matrices([50] * 6)
    found = bootstrap_iou(matrices, list("abcdef"))
    assert found.miou == pytest.approx((miou(iou(matrices)),) * 2)


def test_frames_of_one_video_are_resampled_together() -> None:
    """Many frames of few patients must not look like many patients."""
    matrices = video_matrices([0] * 50 + [100] * 50)
    as_patients = bootstrap_iou(matrices, [f"v{i}" for i in range(100)])
    as_frames_of_ten = bootstrap_iou(matrices, [f"v{i // 10}" for i in range(100)])
    width = [found.iou[1][1] - found.iou[1][0] for found in (as_patients, as_frames_of_ten)]
    assert width[1] > 2 * width[0]


def test_too_few_patients_give_no_interval_and_a_reason() -> None:
    found = bootstrap_iou(video_matrices([10, 20, 30, 40]), list("abcd"))
    assert found.miou is None
    assert found.iou == (None, None)
    assert found.reasons["miou"] == "4 patients, an interval needs 5"


def test_a_class_of_too_few_patients_has_none_while_others_have() -> None:
    matrices = video_matrices([50] * 6)
    matrices[2:, 1] = 0
    found = bootstrap_iou(matrices, list("abcdef"))
    assert found.iou[0] is not None
    assert found.iou[1] is None
    assert found.reasons == {"1": "2 of 6 patients show this class, an interval needs 5"}


def test_a_seed_repeats_and_another_differs() -> None:
    matrices = video_matrices([10, 40, 60, 80, 95, 30])
    one, same, other = (bootstrap_iou(matrices, list("abcdef"), seed=s, resamples=50) for s in (1, 1, 2))
    assert one == same
    assert one.miou != other.miou
