"""The class-wise contrastive loss against eq. 3 and 4 as loops, another library, and identities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lap_monai.losses import ClassContrastiveLoss, share_without_positive


def make_batch(images: int = 12, width: int = 6, scales: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0):
    """Return embeddings, class vectors and phases, with positives and images that have none."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = [torch.randn(images, width, generator=generator, dtype=dtype) for _ in range(scales)]
    classes = torch.randint(0, 2, (images, 2), generator=generator).float()
    phase = torch.randint(-1, 2, (images,), generator=generator)
    return embeddings, classes, phase


def dcl_by_loops(embeddings: list[Tensor], classes: Tensor, phase: Tensor, tau: float) -> tuple[float, int]:
    """Return eq. 4 word by word, without the anchors that have no positive, and the number of anchors."""
    count = len(classes)
    total, anchors = 0.0, 0
    for i in range(count):
        positives = [
            j
            for j in range(count)
            if j != i and classes[i].tolist() == classes[j].tolist() and int(phase[i]) == int(phase[j])
        ]
        if not positives:
            continue
        anchors += 1
        for j in positives:
            for z in embeddings:
                similarity = [torch.cosine_similarity(z[i], z[k], dim=0).item() / tau for k in range(count)]
                shift = max(similarity)
                partition = sum(math.exp(similarity[k] - shift) for k in range(count) if k != i)
                total -= (similarity[j] - shift - math.log(partition)) / len(positives)
    return total, anchors


@pytest.mark.parametrize("tau", [0.01, 0.07, 1.0])
@pytest.mark.parametrize(("images", "scales"), [(2, 1), (3, 2), (12, 3)])
def test_equals_the_equation_as_loops(images, scales, tau):
    embeddings, classes, phase = make_batch(images, scales=scales)
    classes[0], phase[0] = classes[1], phase[1]  # at least one pair
    expected, anchors = dcl_by_loops(embeddings, classes, phase, tau)
    total = ClassContrastiveLoss(tau, reduction="sum")(embeddings, classes, phase)
    mean = ClassContrastiveLoss(tau)(embeddings, classes, phase)
    assert total.item() == pytest.approx(expected, rel=1e-9)
    assert mean.item() == pytest.approx(expected / anchors, rel=1e-9)


def test_equals_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    embeddings, classes, phase = make_batch(60, 16, dtype=torch.float32)
    ours = [embedding.clone().requires_grad_() for embedding in embeddings]
    theirs = [embedding.clone().requires_grad_() for embedding in embeddings]
    labels = torch.cat([classes, phase[:, None].float()], dim=1).unique(dim=0, return_inverse=True)[1]
    oracle = losses.SupConLoss(temperature=0.07)
    value = ClassContrastiveLoss()(ours, classes, phase)
    expected = sum(oracle(embedding, labels) for embedding in theirs)
    value.backward()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.allclose(our.grad, their.grad, atol=1e-6)


def test_one_scale_may_be_a_plain_tensor():
    embeddings, classes, phase = make_batch(scales=1)
    loss = ClassContrastiveLoss()
    assert loss(embeddings[0], classes, phase) == loss(embeddings, classes, phase)


def test_scales_are_summed():
    embeddings, classes, phase = make_batch()
    loss = ClassContrastiveLoss()
    expected = sum(loss(embedding, classes, phase).item() for embedding in embeddings)
    assert loss(embeddings, classes, phase).item() == pytest.approx(expected)


def test_the_order_of_the_images_does_not_matter():
    embeddings, classes, phase = make_batch()
    order = torch.randperm(len(classes))
    loss = ClassContrastiveLoss()
    permuted = loss([embedding[order] for embedding in embeddings], classes[order], phase[order])
    assert permuted.item() == pytest.approx(loss(embeddings, classes, phase).item())


def test_the_length_of_the_embeddings_does_not_matter():
    embeddings, classes, phase = make_batch()
    loss = ClassContrastiveLoss()
    rescaled = [embedding * torch.rand(len(classes), 1).add(0.1) * 100 for embedding in embeddings]
    assert loss(rescaled, classes, phase).item() == pytest.approx(loss(embeddings, classes, phase).item())


def test_alike_positives_cost_less():
    classes = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1]])
    sorted_by_class = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    loss = ClassContrastiveLoss()
    assert (
        loss(sorted_by_class, classes) < loss(torch.ones(4, 2), classes) < loss(sorted_by_class[[0, 2, 1, 3]], classes)
    )


def test_an_image_without_a_positive_is_a_negative_of_the_others():
    classes = torch.tensor([[1, 0], [1, 0], [0, 1]])
    far, near = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.2])
    pair = torch.tensor([[1.0, 0.0], [1.0, 0.1]])
    loss = ClassContrastiveLoss()
    assert loss(torch.cat([pair, far[None]]), classes) < loss(torch.cat([pair, near[None]]), classes)


@pytest.mark.parametrize("images", [0, 1, 4])
def test_without_any_positive_zero_and_connected(images):
    embedding = torch.randn(images, 5, requires_grad=True)
    value = ClassContrastiveLoss()(embedding, torch.eye(4)[:images])
    value.backward()
    assert value.item() == 0
    assert torch.equal(embedding.grad, torch.zeros_like(embedding))


def test_gradients_are_right():
    embeddings, classes, phase = make_batch(6, 3, 2)
    embeddings = [embedding.requires_grad_() for embedding in embeddings]
    for reduction in ("mean", "sum"):
        loss = ClassContrastiveLoss(0.5, reduction)
        assert torch.autograd.gradcheck(lambda *scales, loss=loss: loss(scales, classes, phase), embeddings)


@pytest.mark.parametrize("tau", [0.01, 0.001])
def test_a_low_temperature_is_stable_in_float32(tau):
    embeddings, classes, phase = make_batch(40, 16, dtype=torch.float32)
    embeddings = [embedding.requires_grad_() for embedding in embeddings]
    value = ClassContrastiveLoss(tau)(embeddings, classes, phase)
    value.backward()
    exact = ClassContrastiveLoss(tau)([embedding.detach().double() for embedding in embeddings], classes, phase)
    assert value.item() == pytest.approx(exact.item(), rel=1e-4)
    assert all(torch.isfinite(embedding.grad).all() for embedding in embeddings)


def test_a_zero_embedding_does_no_harm():
    embeddings, classes, phase = make_batch(dtype=torch.float32)
    for embedding in embeddings:
        embedding[3] = 0
    embeddings = [embedding.requires_grad_() for embedding in embeddings]
    value = ClassContrastiveLoss()(embeddings, classes, phase)
    value.backward()
    assert torch.isfinite(value)
    for embedding in embeddings:
        assert torch.equal(embedding.grad[3], torch.zeros_like(embedding.grad[3]))
        assert embedding.grad.abs().max() < 1e3


def test_computes_in_float32_under_autocast():
    embeddings, classes, phase = make_batch(40, 16, dtype=torch.bfloat16)
    expected = ClassContrastiveLoss(0.01)([embedding.float() for embedding in embeddings], classes, phase)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ClassContrastiveLoss(0.01)(embeddings, classes, phase)
    assert value.dtype is torch.float32
    assert value == expected


def test_leaves_its_inputs_as_they_were():
    embeddings, classes, phase = make_batch()
    copies = [tensor.clone() for tensor in (*embeddings, classes, phase)]
    ClassContrastiveLoss()(embeddings, classes, phase)
    assert all(torch.equal(a, b) for a, b in zip((*embeddings, classes, phase), copies, strict=True))


def test_share_without_positive():
    classes = torch.tensor([[1, 0], [1, 0], [0, 1], [1, 1]])
    assert share_without_positive(classes).item() == 0.5
    assert share_without_positive(classes, torch.tensor([0, 1, 0, 0])).item() == 1
    assert share_without_positive(torch.zeros(0, 2)).item() == 0


@pytest.mark.parametrize(
    ("embeddings", "classes", "phase", "message"),
    [
        (
            torch.ones(4, 3, 2, 2),
            torch.ones(4, 2),
            None,
            r"expected embeddings of shape \(B=4, D\), got \(4, 3, 2, 2\)",
        ),
        ([torch.ones(4, 3), torch.ones(5, 3)], torch.ones(4, 2), None, r"embeddings of shape \(B=4, D\), got \(5, 3\)"),
        ([], torch.ones(4, 2), None, "at least one tensor of embeddings"),
        (torch.ones(4, 3), torch.ones(4), None, r"expected classes of shape \(B, C\), got \(4,\)"),
        (torch.ones(4, 3), torch.ones(4, 2), torch.ones(4, 1), r"expected phase of shape \(B=4,\), got \(4, 1\)"),
    ],
)
def test_says_which_shape_is_wrong(embeddings, classes, phase, message):
    with pytest.raises(ValueError, match=message):
        ClassContrastiveLoss()(embeddings, classes, phase)


def test_refuses_wrong_arguments():
    with pytest.raises(ValueError, match="expected a temperature > 0, got 0"):
        ClassContrastiveLoss(temperature=0)
    with pytest.raises(ValueError, match=r"'men'.*Did you mean 'mean'"):
        ClassContrastiveLoss(reduction="men")
