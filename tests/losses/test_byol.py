"""BYOL's loss against its equation."""

from __future__ import annotations

import pytest
import torch

from lap_monai.losses import ByolLoss


def make_inputs(images: int = 5, scales: int = 2, dtype: torch.dtype = torch.float64) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(images, 4, generator=generator, dtype=dtype) for _ in range(scales)] for _ in range(4)]


def test_equals_the_distance_of_normalised_vectors():
    online, view_online, target, view_target = make_inputs()
    total = 0.0
    for predictions, targets in ((online, view_target), (view_online, target)):
        for p, t in zip(predictions, targets, strict=True):
            for i in range(5):
                total += (p[i] / p[i].norm() - t[i] / t[i].norm()).square().sum().item()  # eq. 2
    value = ByolLoss()(online, view_online, target, view_target)
    assert value.item() == pytest.approx(total / 5)


def test_is_zero_for_perfect_predictions_and_four_per_direction_and_scale_for_opposite_ones():
    a, b, _, _ = make_inputs()
    scaled = [3 * z for z in b]
    assert ByolLoss()(a, b, scaled, a).item() == pytest.approx(0, abs=1e-12)
    assert ByolLoss()(a, b, [-z for z in b], [-z for z in a]).item() == pytest.approx(4 * 2 * 2)


def test_no_gradient_flows_into_the_targets():
    inputs = make_inputs()
    for scales in inputs:
        for z in scales:
            z.requires_grad_()
    ByolLoss()(*inputs).backward()
    assert all(z.grad.abs().sum() > 0 for scales in inputs[:2] for z in scales)
    assert all(z.grad is None for scales in inputs[2:] for z in scales)


def test_gradients_are_right():
    online, view_online, target, view_target = make_inputs(3)
    inputs = [z.requires_grad_() for z in (*online, *view_online)]
    assert torch.autograd.gradcheck(lambda *z: ByolLoss()(z[:2], z[2:], target, view_target), inputs)


def test_an_empty_batch_gives_zero_connected_to_the_graph():
    empty = [torch.zeros(0, 3, requires_grad=True)]
    value = ByolLoss()(empty, empty, empty, empty)
    value.backward()
    assert value.item() == 0


def test_says_which_shapes_do_not_fit():
    with pytest.raises(ValueError, match=r"equal shapes, got \[\[\(2, 3\)\], \[\], \[\(2, 3\)\], \[\(2, 3\)\]\]"):
        ByolLoss()([torch.ones(2, 3)], [], [torch.ones(2, 3)], [torch.ones(2, 3)])
