"""The multi-label loss against eq. 5 as loops."""

from __future__ import annotations

import math

import pytest
import torch

from lap_monai.losses import MultiLabelLoss


def bce_by_loops(logits: torch.Tensor, classes: torch.Tensor) -> float:
    total = 0.0
    for row, targets in zip(logits.tolist(), classes.tolist(), strict=True):
        for score, y in zip(row, targets, strict=True):
            p = 1 / (1 + math.exp(-score))
            total -= y * math.log(p) + (1 - y) * math.log(1 - p)
    return total


@pytest.mark.parametrize(("reduction", "divisor"), [("sum", 1), ("batch", 5), ("mean", 15)])
def test_equals_the_equation_as_loops(reduction, divisor):
    logits = torch.randn(5, 3, dtype=torch.float64)
    classes = torch.randint(0, 2, (5, 3))
    expected = bce_by_loops(logits, classes) / divisor
    assert MultiLabelLoss(reduction)(logits, classes).item() == pytest.approx(expected)


def test_better_predictions_cost_less():
    classes = torch.tensor([[1, 0, 1]])
    right = torch.tensor([[4.0, -4.0, 4.0]])
    loss = MultiLabelLoss()
    assert loss(right, classes) < loss(torch.zeros(1, 3), classes) < loss(-right, classes)


@pytest.mark.parametrize("reduction", ["batch", "sum", "mean"])
def test_an_empty_batch_costs_zero_and_is_connected(reduction):
    logits = torch.randn(0, 3, requires_grad=True)
    value = MultiLabelLoss(reduction)(logits, torch.zeros(0, 3))
    value.backward()
    assert value.item() == 0
    assert logits.grad.shape == (0, 3)


def test_extreme_scores_stay_finite():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    value = MultiLabelLoss()(logits, torch.tensor([[0.0, 1.0]]))
    value.backward()
    assert value.item() == pytest.approx(2e4)
    assert torch.isfinite(logits.grad).all()


def test_computes_in_float32_under_autocast():
    logits, classes = torch.randn(4, 3, dtype=torch.bfloat16), torch.ones(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = MultiLabelLoss()(logits, classes)
    assert value.dtype is torch.float32
    assert value == MultiLabelLoss()(logits.float(), classes)


def test_gradients_are_right():
    logits = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: MultiLabelLoss()(x, torch.eye(3)[:, :2]), logits)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"one shape \(B, C\), got \(4, 3\) and \(4, 8\)"):
        MultiLabelLoss()(torch.ones(4, 3), torch.ones(4, 8))
    with pytest.raises(ValueError, match=r"'batsh'.*Did you mean 'batch'"):
        MultiLabelLoss("batsh")
