"""Learned weights of losses."""

from __future__ import annotations

import math

import pytest
import torch

from lap_monai.losses import MultiLabelLoss, UncertaintyWeightedLoss


def test_at_zero_log_variance_it_is_the_loss():
    scores, classes = torch.randn(3, 4), torch.ones(3, 4)
    expected = MultiLabelLoss()(scores, classes)
    assert torch.equal(
        UncertaintyWeightedLoss(MultiLabelLoss(), 1)(torch.tensor([5.0, 0.0]), scores, classes), expected
    )


def test_the_best_log_variance_is_that_of_equation_10():
    # For a fixed loss l, exp(-s) l + s / 2 is least at exp(s) = 2 l.
    fixed = 0.7
    log_variances = torch.zeros(2, requires_grad=True)
    loss = UncertaintyWeightedLoss(lambda: torch.tensor(fixed), 0)
    optimizer = torch.optim.SGD([log_variances], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        loss(log_variances).backward()
        optimizer.step()
    assert log_variances[0].exp().item() == pytest.approx(2 * fixed, rel=1e-4)
    assert log_variances[1].item() == 0


def test_a_greater_uncertainty_weakens_the_gradient_of_the_loss():
    scores = torch.zeros(2, 3, requires_grad=True)
    slopes = []
    for s in (0.0, 2.0):
        (slope,) = torch.autograd.grad(
            UncertaintyWeightedLoss(MultiLabelLoss(), 0)(torch.tensor([s]), scores, torch.ones(2, 3)), scores
        )
        slopes.append(slope)
    torch.testing.assert_close(slopes[1], slopes[0] * math.exp(-2))
