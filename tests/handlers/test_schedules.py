"""Learning rates over the iterations of a training, also of one that goes on for longer than planned."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, PolynomialLR

from lap_monai.handlers import polynomial_decay


def rates(scheduler, optimizer, iterations):
    found = []
    for _ in range(iterations):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def make(iterations):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    return LambdaLR(optimizer, polynomial_decay(iterations)), optimizer


def test_it_falls_as_pytorchs_polynomial_does():
    ours = rates(*make(7), 9)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    assert ours == pytest.approx(rates(PolynomialLR(optimizer, 7, power=0.9), optimizer, 9))
    assert ours[0] == 0.5
    assert ours[7] == 0


def test_a_training_that_is_given_more_iterations_learns_in_them():
    short, before = make(4)
    rates(short, before, 4)
    longer, after = make(8)
    longer.load_state_dict(short.state_dict())
    after.load_state_dict(before.state_dict())
    longer.step()
    assert rates(longer, after, 3) == pytest.approx(rates(*make(8), 8)[5:])


def test_a_training_without_iterations_is_refused():
    with pytest.raises(ValueError, match="at least 1 iteration"):
        polynomial_decay(0)
