"""Binary confusion matrices under partial labels, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lap_monai.metrics import class_iou, confusion_matrix, iou, known_counts
from lap_monai.task_stream import Knowledge, complete_knowledge

CLASSES = 4


def draw(seed):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 0, 1, 2, 3, 255], (5, 6, 7)).astype(np.uint8)
    knowledge = np.stack([complete_knowledge(rng.choice([0, 1, 2], CLASSES)) for _ in label])
    prediction = rng.integers(0, CLASSES, label.shape).astype(np.uint8)
    return prediction, label, knowledge


def counts_of(prediction, label, knowledge):
    matrices = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(label), CLASSES).numpy()
    return known_counts(matrices, knowledge)


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_loop_over_the_pixels(seed):
    prediction, label, knowledge = draw(seed)
    expected = np.zeros((len(label), CLASSES, 2, 2), np.int64)
    for n, h, w in np.ndindex(label.shape):
        truth = label[n, h, w]
        for c in range(CLASSES):
            if truth != 255 and (truth != 0 or knowledge[n, c] != Knowledge.UNKNOWN):
                expected[n, c, int(truth == c), int(prediction[n, h, w] == c)] += 1
    np.testing.assert_array_equal(counts_of(prediction, label, knowledge), expected)


def test_with_all_known_the_scores_are_the_ordinary_ones():
    prediction, label, knowledge = draw(0)
    matrices = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(label), CLASSES).numpy()
    counts = known_counts(matrices, np.full_like(knowledge, Knowledge.MASK))
    np.testing.assert_allclose(class_iou(counts)[..., 1], class_iou(matrices))
    np.testing.assert_allclose(iou(counts)[:, 1], iou(matrices))


def test_an_organ_that_nobody_drew_is_no_false_positive():
    label = np.array([[[0, 0, 1, 1]]], np.uint8)
    perfect = np.array([[[2, 2, 1, 1]]], np.uint8)  # 2 is really there, and not annotated
    unknown, known = complete_knowledge([0, 2, 0, 0]), complete_knowledge([0, 2, 1, 1])
    assert counts_of(perfect, label, unknown[None])[0, 2].tolist() == [[2, 0], [0, 0]]
    assert counts_of(perfect, label, known[None])[0, 2].tolist() == [[2, 2], [0, 0]]


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"got \(2, 3, 3\) and \(2, 4\)"):
        known_counts(np.zeros((2, 3, 3)), np.zeros((2, 4)))
