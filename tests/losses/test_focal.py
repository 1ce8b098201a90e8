"""The focal loss against eq. 7 as loops, torch's cross-entropy and MONAI's focal loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lap_monai.losses import FocalLoss


def make_images(images: int = 3) -> tuple[Tensor, Tensor]:
    """Return logits of 4 classes and labels with ignored pixels, a different number in every image."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, 4, 3, 5, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 4, (images, 1, 3, 5), generator=generator)
    for image in range(images):
        label[image, :, :, :image] = 255
    return logits, label


def focal_by_loops(logits: Tensor, label: Tensor, gamma: float, weight: tuple[float, ...] = (1, 1, 1, 1)) -> float:
    """Return eq. 7 for one image, as the mean over its valid pixels, each times the weight of its class."""
    total, pixels = 0.0, 0
    for scores, target in zip(logits.flatten(1).T.tolist(), label.flatten().tolist(), strict=True):
        if target != 255:
            p = math.exp(scores[target]) / sum(math.exp(score) for score in scores)
            total -= weight[target] * (1 - p) ** gamma * math.log(p)
            pixels += 1
    return total / pixels


@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5])
def test_equals_the_equation_as_loops(gamma):
    logits, label = make_images()
    expected = sum(focal_by_loops(logits[i], label[i], gamma) for i in range(3)) / 3
    assert FocalLoss(gamma)(logits, label).item() == pytest.approx(expected)


def test_class_weights_multiply_the_pixels_of_their_class():
    logits, label = make_images()
    weight = (0.5, 2.0, 0.0, 1.0)
    expected = sum(focal_by_loops(logits[i], label[i], 2, weight) for i in range(3)) / 3
    assert FocalLoss(class_weight=weight)(logits, label).item() == pytest.approx(expected)
    assert FocalLoss(class_weight=(1, 1, 1, 1))(logits, label).item() == FocalLoss()(logits, label).item()


def test_class_weights_are_checked():
    logits, label = make_images()
    with pytest.raises(ValueError, match="expected 4 class weights"):
        FocalLoss(class_weight=(1, 1))(logits, label)
    with pytest.raises(ValueError, match="every class_weight >= 0"):
        FocalLoss(class_weight=(1, -1))


def test_without_gamma_it_is_the_cross_entropy():
    logits, label = make_images()
    expected = sum(
        torch.nn.functional.cross_entropy(logits[i : i + 1], label[i], ignore_index=255).item() for i in range(3)
    )
    assert FocalLoss(0)(logits, label).item() == pytest.approx(expected / 3)


def test_equals_monai_for_one_image():
    """MONAI pools the pixels of all images, hence one."""
    from monai.losses import FocalLoss as Oracle

    logits, label = (tensor[2:] for tensor in make_images())
    oracle = Oracle(to_onehot_y=True, use_softmax=True, gamma=2, ignore_index=255)
    assert FocalLoss()(logits, label).item() == pytest.approx(oracle(logits, label).item(), rel=1e-5)


def test_easy_pixels_are_discounted():
    easy = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    hard, label = easy.flip(1), torch.zeros(1, 1, 1, 1)
    plain, focal = FocalLoss(0), FocalLoss(2)
    assert focal(hard, label) / focal(easy, label) > 10 * plain(hard, label) / plain(easy, label)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
@pytest.mark.parametrize("score", [1e4, -1e4])
def test_certain_predictions_stay_finite(gamma, score):
    logits = torch.tensor([score, 0.0]).view(1, 2, 1, 1).requires_grad_()
    value = FocalLoss(gamma)(logits, torch.zeros(1, 1, 1, 1))
    value.backward()
    assert value.item() == pytest.approx(max(-score, 0))
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("images", [0, 2])
def test_nothing_to_compare_is_zero_and_connected(images):
    logits = torch.randn(images, 3, 4, 4, requires_grad=True)
    value = FocalLoss()(logits, torch.full((images, 1, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_gradients_are_right(gamma):
    logits, label = make_images(2)
    loss = FocalLoss(gamma)
    assert torch.autograd.gradcheck(lambda x: loss(x, label), logits.requires_grad_())


def test_refuses_a_negative_gamma():
    with pytest.raises(ValueError, match="expected gamma >= 0, got -1"):
        FocalLoss(-1)
