"""The segmentation loss: the sum of its terms, odd inputs and messages."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lap_monai.losses import FocalLoss, SegmentationLoss, SquaredGeneralizedDiceLoss


def make_images(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 6, 5, generator=generator).to(dtype)
    label = torch.randint(0, 4, (3, 1, 6, 5), generator=generator, dtype=torch.uint8)
    label[:, :, :2] = 255
    return logits, label


def test_is_the_weighted_sum_of_its_terms():
    logits, label = make_images()
    dice = SquaredGeneralizedDiceLoss("simple", batch=True, eps=1e-3)(logits, label).item()
    focal = FocalLoss(1.5)(logits, label).item()
    loss = SegmentationLoss(0.3, 2, gamma=1.5, dice_class_weight="simple", batch=True, eps=1e-3)
    assert loss(logits, label).item() == pytest.approx(0.3 * dice + 2 * focal)


def test_one_term_of_weight_one_is_the_term():
    logits, label = make_images()
    assert SegmentationLoss(focal_weight=0)(logits, label) == SquaredGeneralizedDiceLoss()(logits, label)
    assert SegmentationLoss(dice_weight=0)(logits, label) == FocalLoss()(logits, label)


def test_ignored_pixels_change_nothing():
    logits, label = make_images()
    other = logits.clone()
    other[:, :, :2] = 7 * torch.randn(3, 4, 2, 5)
    other.requires_grad_()
    value = SegmentationLoss()(other, label)
    value.backward()
    assert value.item() == pytest.approx(SegmentationLoss()(logits, label).item())
    assert torch.equal(other.grad[:, :, :2], torch.zeros(3, 4, 2, 5))
    assert other.grad[:, :, 2:].abs().min() > 0
    cropped = SegmentationLoss()(logits[:, :, 2:], label[:, :, 2:])
    assert value.item() == pytest.approx(cropped.item())


def test_the_ignored_label_can_be_chosen():
    logits, label = make_images()
    own = label.to(torch.int16).where(label != 255, -1)
    assert SegmentationLoss(ignore_index=-1)(logits, own) == SegmentationLoss()(logits, label)


def test_pixels_may_be_permuted_and_labels_of_any_integer_type():
    logits, label = make_images()
    order = torch.randperm(30)
    permuted = (tensor.flatten(2)[:, :, order].view_as(tensor) for tensor in (logits, label))
    expected = SegmentationLoss()(logits, label).item()
    assert SegmentationLoss()(*permuted).item() == pytest.approx(expected)
    assert SegmentationLoss()(logits, label.long()).item() == expected
    channels_last = logits.contiguous(memory_format=torch.channels_last)
    assert SegmentationLoss()(channels_last, label).item() == pytest.approx(expected)


def test_learning_lowers_it():
    logits, label = make_images()
    logits.requires_grad_()
    loss = SegmentationLoss()
    before = loss(logits, label)
    optimiser = torch.optim.Adam([logits], lr=0.5)
    for _ in range(60):
        optimiser.zero_grad()
        loss(logits, label).backward()
        optimiser.step()
    assert loss(logits, label) < 0.05 * before


@pytest.mark.parametrize("images", [0, 1])
def test_nothing_to_compare_is_zero_and_connected(images):
    logits = torch.randn(images, 3, 4, 4, requires_grad=True)
    value = SegmentationLoss()(logits, torch.full((images, 1, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_one_pixel():
    logits = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).requires_grad_()
    value = SegmentationLoss()(logits, torch.zeros(1, 1, 1, 1))
    value.backward()
    assert value > 0
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


def test_gradients_are_right():
    logits, label = make_images(torch.float64)
    assert torch.autograd.gradcheck(lambda x: SegmentationLoss()(x, label), logits.requires_grad_())


def test_computes_in_float32_under_autocast():
    logits, label = make_images(torch.bfloat16)
    expected = SegmentationLoss()(logits.float(), label)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SegmentationLoss()(logits.requires_grad_(), label)
    value.backward()
    assert value.dtype is torch.float32
    assert value == expected
    assert logits.grad.dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("logits", "label", "message"),
    [
        ((2, 3, 8, 8), (2, 8, 8), r"SegmentationLoss: expected labels of shape \(M, 1, H, W\).*got \(2, 8, 8\)"),
        ((2, 3, 8, 8), (5, 1, 8, 8), r"= \(2, 1, 8, 8\) for logits of shape \(2, 3, 8, 8\), got \(5, 1, 8, 8\)"),
        ((2, 3), (2, 1), r"expected logits of shape \(M, C, H, W\), got \(2, 3\)"),
    ],
)
def test_says_which_shape_is_wrong(logits, label, message):
    with pytest.raises(ValueError, match=message):
        SegmentationLoss()(torch.zeros(logits), torch.zeros(label))


@pytest.mark.parametrize("loss", [SegmentationLoss, FocalLoss, SquaredGeneralizedDiceLoss])
@pytest.mark.parametrize("wrong", [3, -1])
def test_says_that_a_label_is_no_class(loss, wrong):
    label = torch.zeros(1, 1, 4, 4, dtype=torch.int64)
    label[0, 0, 1, 1] = wrong
    with pytest.raises(ValueError, match=f"{loss.__name__}: label {wrong} is none of the 3 classes.*label space"):
        loss()(torch.zeros(1, 3, 4, 4), label)


@pytest.mark.parametrize("weights", [(-1, 1), (0, 0)])
def test_refuses_wrong_weights(weights):
    with pytest.raises(ValueError, match=f">= 0, one of them > 0, got {weights[0]} and {weights[1]}"):
        SegmentationLoss(*weights)
