"""Which images attract each other: equality and overlap of labels against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from lap_monai.losses import ClassContrastiveLoss, EqualLabels, ImageLabels, OverlappingLabels


def make_labels(images: int, seed: int, classes: int = 4) -> ImageLabels:
    generator = torch.Generator().manual_seed(seed)
    return ImageLabels(
        torch.randint(0, 2, (images, classes), generator=generator).float(),
        torch.randint(-1, 2, (images,), generator=generator),
    )


def jaccard(first: torch.Tensor, second: torch.Tensor) -> float:
    a, b = ({i for i, there in enumerate(vector.tolist()) if there} for vector in (first, second))
    return len(a & b) / len(a | b) if a | b else 1.0


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("other_phase", [0.0, 0.3, 1.0])
def test_overlap_by_loops(sharpness, other_phase):
    anchors, others = make_labels(15, 0), make_labels(22, 1)
    weights = OverlappingLabels(sharpness, other_phase)(anchors, others)
    assert weights.shape == (15, 22)
    for i in range(15):
        for j in range(22):
            expected = jaccard(anchors.classes[i], others.classes[j]) ** sharpness
            expected *= 1.0 if anchors.phase[i] == others.phase[j] else other_phase
            assert weights[i, j].item() == pytest.approx(expected)


def test_equality_is_full_overlap_in_one_phase():
    anchors, others = make_labels(60, 2), make_labels(60, 3)
    equal = EqualLabels()(anchors, others)
    assert torch.equal(OverlappingLabels(math.inf, other_phase=0)(anchors, others), equal)
    assert 0 < equal.mean() < 1


@pytest.mark.parametrize("weights", [EqualLabels(), OverlappingLabels(other_phase=0)])
def test_without_phases_the_classes_decide(weights):
    anchors, others = make_labels(20, 4), make_labels(20, 5)
    unknown = [ImageLabels(labels.classes, torch.full((20,), -1)) for labels in (anchors, others)]
    assert torch.equal(weights(ImageLabels(anchors.classes), others), weights(*unknown))


@pytest.mark.parametrize("weights", [EqualLabels(), OverlappingLabels(1.0)])
def test_an_unknown_class_vector_attracts_nothing(weights):
    labels = ImageLabels(torch.tensor([[1.0, 0.0], [torch.nan, torch.nan], [1.0, 0.0]]))
    assert weights(labels, labels)[1].sum() == 0
    assert weights(labels, labels)[0, 2] == 1


def test_the_sharper_the_fewer_attract():
    anchors, others = make_labels(30, 10), make_labels(30, 11)
    sums = [OverlappingLabels(p)(anchors, others).sum() for p in (0.5, 1.0, 4.0, 50.0, math.inf)]
    assert sums == sorted(sums, reverse=True)
    assert sums[-2].item() == pytest.approx(sums[-1].item(), abs=0.01)


def test_a_loss_with_soft_positives_is_the_weighted_mean_over_pairs():
    generator = torch.Generator().manual_seed(6)
    z = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    labels = make_labels(9, 7)
    rule = OverlappingLabels(2.0, 0.5)
    total, anchors = 0.0, 0
    for i in range(9):
        others = [j for j in range(9) if j != i]
        scores = torch.stack([torch.cosine_similarity(z[i], z[j], dim=0) / 0.2 for j in others])
        pulls = []
        for j in others:
            overlap = jaccard(labels.classes[i], labels.classes[j])
            pulls.append(overlap**2 * (1.0 if labels.phase[i] == labels.phase[j] else 0.5))
        if sum(pulls) > 0:
            anchors += 1
            log_p = scores.log_softmax(0)
            total -= sum(w * p.item() for w, p in zip(pulls, log_p, strict=True)) / sum(pulls)
    value = ClassContrastiveLoss(0.2, positives=rule)(z, *labels)
    assert value.item() == pytest.approx(total / anchors, rel=1e-6)


def test_equal_overlaps_make_no_difference_to_the_hard_loss():
    labels = make_labels(30, 8)
    z = torch.randn(30, 6, generator=torch.Generator().manual_seed(9))
    hard = ClassContrastiveLoss()(z, *labels)
    soft = ClassContrastiveLoss(positives=OverlappingLabels(math.inf, other_phase=0))(z, *labels)
    assert torch.equal(hard, soft)


@pytest.mark.parametrize("wrong", [{"sharpness": 0}, {"other_phase": -0.1}])
def test_refuses_wrong_arguments(wrong):
    with pytest.raises(ValueError, match="sharpness > 0 and other_phase from 0 to 1"):
        OverlappingLabels(**wrong)
