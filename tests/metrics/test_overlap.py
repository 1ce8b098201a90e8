from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score
from torch import as_tensor

from lap_monai.metrics import (
    class_iou,
    confusion_matrix,
    dice,
    iou,
    iou_per_image,
    iou_per_video,
    miou,
    pool_by_video,
)


def matrices_of(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    return confusion_matrix(as_tensor(prediction), as_tensor(label), classes).numpy()


@pytest.fixture
def ids() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 4, (6, 9, 11)), generator.integers(0, 4, (6, 9, 11))


def test_pooled_scores_equal_scikit_learn(ids: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, label = ids
    matrices = matrices_of(prediction, label, 4)
    arguments = (label.ravel(), prediction.ravel())
    np.testing.assert_allclose(iou(matrices), jaccard_score(*arguments, average=None))
    np.testing.assert_allclose(dice(matrices), f1_score(*arguments, average=None))


def test_per_image_and_per_video_equal_loops(ids: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, label = ids
    matrices = matrices_of(prediction, label, 4)
    per_image = [jaccard_score(t.ravel(), p.ravel(), average=None) for p, t in zip(prediction, label, strict=True)]
    np.testing.assert_allclose(iou_per_image(matrices), np.mean(per_image, 0))
    videos = ["b", "a", "b", "c", "c", "c"]
    per_video = []
    for video in "abc":
        frames = [i for i, name in enumerate(videos) if name == video]
        per_video.append(jaccard_score(label[frames].ravel(), prediction[frames].ravel(), average=None))
    np.testing.assert_allclose(iou_per_video(matrices, videos), np.mean(per_video, 0))


def test_dice_and_iou_agree(ids: tuple[np.ndarray, np.ndarray]) -> None:
    matrices = matrices_of(*ids, 4)
    np.testing.assert_allclose(dice(matrices), 2 * iou(matrices) / (1 + iou(matrices)))


def test_a_class_only_predicted_is_absent_under_truth_and_zero_under_union() -> None:
    matrix = np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])  # class 1 predicted only, class 2 nowhere
    np.testing.assert_array_equal(class_iou(matrix, "truth"), [6 / 8, np.nan, np.nan])
    np.testing.assert_array_equal(class_iou(matrix, "union"), [6 / 8, 0, np.nan])


def test_a_missed_class_scores_zero_under_both_policies() -> None:
    matrix = np.array([[6, 0], [2, 0]])
    assert class_iou(matrix, "truth")[1] == class_iou(matrix, "union")[1] == 0


def test_per_image_mean_skips_frames_without_the_class() -> None:
    with_class = np.array([[2, 0], [1, 1]])
    without = np.array([[4, 0], [0, 0]])
    false_alarm = np.array([[3, 1], [0, 0]])
    assert iou_per_image(np.stack([with_class, without]))[1] == 1 / 2
    assert iou_per_image(np.stack([with_class, without, false_alarm]))[1] == 1 / 4
    assert iou_per_image(np.stack([with_class, without, false_alarm]), "truth")[1] == 1 / 2


def test_mean_over_classes_skips_absent_ones_and_is_nan_without_any() -> None:
    assert miou(np.array([0.25, np.nan, 0.75])) == 0.5
    assert np.isnan(miou(np.array([np.nan, np.nan])))


def test_pooling_by_video_does_not_depend_on_order(ids: tuple[np.ndarray, np.ndarray]) -> None:
    matrices, videos = matrices_of(*ids, 4), ["b", "a", "b", "c", "c", "a"]
    order = np.random.default_rng(1).permutation(6)
    names, pooled = pool_by_video(matrices, videos)
    again, pooled_again = pool_by_video(matrices[order], [videos[i] for i in order])
    assert names == again == ["a", "b", "c"]
    np.testing.assert_array_equal(pooled, pooled_again)
    np.testing.assert_array_equal(pooled.sum(0), matrices.sum(0))


def test_one_name_per_matrix() -> None:
    with pytest.raises(ValueError, match="one video name per matrix"):
        pool_by_video(np.zeros((2, 3, 3)), ["a"])


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="sometimes"):
        iou(np.ones((1, 2, 2)), "sometimes")
