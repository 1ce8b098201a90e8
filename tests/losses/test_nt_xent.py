"""NT-Xent against SimCLR's equation as loops and another library."""

from __future__ import annotations

import math

import pytest
import torch

from lap_monai.losses import NTXentLoss


def make_views(images: int, scales: int = 1, width: int = 6, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(images)
    return [[torch.randn(images, width, generator=generator, dtype=dtype) for _ in range(scales)] for _ in range(2)]


def nt_xent_by_loops(first: torch.Tensor, second: torch.Tensor, tau: float) -> float:
    """Algorithm 1 of the paper: rows 2k-1 and 2k are the views of image k."""
    z = [view for pair in zip(first, second, strict=True) for view in pair]
    total = 0.0
    for k in range(len(first)):
        for i, j in ((2 * k, 2 * k + 1), (2 * k + 1, 2 * k)):
            scores = [torch.cosine_similarity(z[i], z[m], dim=0).item() / tau for m in range(len(z))]
            total -= scores[j] - math.log(sum(math.exp(scores[m]) for m in range(len(z)) if m != i))
    return total / len(z)


@pytest.mark.parametrize("images", [1, 2, 9])
@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_equals_the_papers_algorithm(images, tau):
    (first,), (second,) = make_views(images)
    expected = nt_xent_by_loops(first, second, tau)
    assert NTXentLoss(tau)(first, second).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_equals_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    (first,), (second,) = make_views(30, dtype=torch.float32)
    labels = torch.arange(30).repeat(2)
    expected = losses.NTXentLoss(temperature=0.07)(torch.cat([first, second]), labels)
    assert NTXentLoss()(first, second).item() == pytest.approx(expected.item(), rel=1e-5)


def test_scales_are_summed_and_the_views_may_be_swapped():
    first, second = make_views(5, scales=3)
    loss = NTXentLoss()
    assert loss(first, second).item() == pytest.approx(loss(second, first).item())
    parts = [loss(a, b).item() for a, b in zip(first, second, strict=True)]
    assert loss(first, second).item() == pytest.approx(sum(parts))


def test_alike_views_cost_less_than_mixed_up_ones():
    images = torch.eye(4)
    assert NTXentLoss()(images, images) < NTXentLoss()(images, images.roll(1, 0))


def test_gradients_are_right():
    first, second = make_views(4, scales=2, width=3)
    inputs = [scale.requires_grad_() for scale in (*first, *second)]
    assert torch.autograd.gradcheck(lambda *z: NTXentLoss(0.5)(z[:2], z[2:]), inputs)


def test_an_empty_batch_gives_zero_connected_to_the_graph():
    empty = torch.zeros(0, 3, requires_grad=True)
    value = NTXentLoss()(empty, empty)
    value.backward()
    assert value.item() == 0


def test_says_that_second_views_are_missing():
    with pytest.raises(ValueError, match=r"two views of equal shapes, got \[\(2, 3\)\] and \[\].*TwoViews"):
        NTXentLoss()([torch.ones(2, 3)], [])
