"""Pairs, unit vectors and the formula that contrastive losses share."""

from __future__ import annotations

import math

import pytest
import torch

from lap_monai.losses import positive_pairs
from lap_monai.losses.contrast import attraction_loss, self_excluding_similarity, stack_scales, unit_vectors


def test_positives_have_equal_classes_and_equal_phase():
    classes = torch.tensor([[1, 0, 1], [1, 0, 1], [1, 0, 1], [0, 1, 0]])
    phase = torch.tensor([4, 4, 2, 4])
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 1] = expected[1, 0] = True
    assert torch.equal(positive_pairs(classes, phase), expected)


def test_positives_by_loops():
    generator = torch.Generator().manual_seed(1)
    classes = torch.randint(0, 2, (40, 3), generator=generator).float()
    phase = torch.randint(-1, 3, (40,), generator=generator)
    pairs = positive_pairs(classes, phase)
    for i in range(40):
        for j in range(40):
            alike = classes[i].tolist() == classes[j].tolist() and int(phase[i]) == int(phase[j])
            assert bool(pairs[i, j]) == (alike and i != j)


def test_unknown_phases_leave_the_decision_to_the_class_vector():
    classes = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1]])
    unknown = torch.full((4,), -1)
    assert torch.equal(positive_pairs(classes, unknown), positive_pairs(classes))
    assert positive_pairs(classes).sum() == 4


def test_an_unknown_phase_is_not_a_known_one():
    assert not positive_pairs(torch.ones(2, 3), torch.tensor([-1, 0])).any()


@pytest.mark.parametrize("count", [0, 1])
def test_no_pair_in_a_batch_of(count):
    pairs = positive_pairs(torch.ones(count, 3), torch.zeros(count, dtype=torch.int64))
    assert pairs.shape == (count, count)
    assert not pairs.any()


def test_a_zero_vector_stays_zero_and_gets_no_gradient():
    features = torch.randn(3, 4)
    features[1] = 0
    features.requires_grad_()
    unit = unit_vectors(features)
    (unit * torch.randn(3, 4)).sum().backward()
    assert torch.allclose(unit.norm(dim=1), torch.tensor([1.0, 0.0, 1.0]))
    assert torch.equal(features.grad[1], torch.zeros(4))
    assert features.grad[[0, 2]].abs().amax(dim=1).gt(0).all()


def test_scales_of_unequal_width_keep_their_cosines():
    wide, narrow = torch.randn(5, 8), torch.randn(5, 3)
    unit = unit_vectors(stack_scales([wide, narrow]))
    similarity = self_excluding_similarity(unit, unit, temperature=1.0)
    for scale, embedding in enumerate((wide, narrow)):
        expected = torch.cosine_similarity(embedding[:, None], embedding[None], dim=2)
        off_diagonal = ~torch.eye(5, dtype=torch.bool)
        assert torch.allclose(similarity[scale][off_diagonal], expected[off_diagonal], atol=1e-6)


def test_similarity_of_some_anchors_is_their_rows():
    unit = unit_vectors(torch.randn(6, 2, 4))
    whole = self_excluding_similarity(unit, unit, 0.1)
    assert torch.allclose(self_excluding_similarity(unit[2:5], unit, 0.1, first=2), whole[:, 2:5])


def test_soft_weights_by_loops():
    similarity = torch.randn(3, 5, dtype=torch.float64)
    weights = torch.rand(3, 5, dtype=torch.float64)
    weights[1] = 0
    values = attraction_loss(similarity, weights)
    for i in range(3):
        partition = sum(math.exp(s) for s in similarity[i].tolist())
        expected = 0.0
        for s, w in zip(similarity[i].tolist(), weights[i].tolist(), strict=True):
            expected -= w * math.log(math.exp(s) / partition)
        expected /= sum(weights[i].tolist()) or 1
        assert values[i].item() == pytest.approx(expected)
