"""The generalised Dice loss against eq. 6 as loops, MONAI's on hard predictions, and identities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lap_monai.losses import SquaredGeneralizedDiceLoss

WEIGHTS = {"square": lambda share: 1 / share**2, "simple": lambda share: 1 / share, "uniform": lambda share: 1.0}


def make_images(images: int = 3, classes: int = 4, height: int = 5, width: int = 4) -> tuple[Tensor, Tensor]:
    """Return logits and labels; some pixels are ignored, and the last class is absent from the first image."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, height, width, generator=generator, dtype=torch.float64)
    label = torch.randint(0, classes, (images, 1, height, width), generator=generator)
    label[0] = label[0].clamp_max(classes - 2)
    label[:, :, 0] = 255
    return logits, label


def dice_by_loops(logits: Tensor, label: Tensor, weight: str, eps: float) -> float:
    """Return eq. 6 for the pixels of all images given, as means over the valid pixels."""
    classes = logits.shape[1]
    overlap, predicted, present = [0.0] * classes, [0.0] * classes, [0.0] * classes
    pixels = 0
    for image in range(len(logits)):
        for scores, target in zip(logits[image].flatten(1).T.tolist(), label[image].flatten().tolist(), strict=True):
            if target == 255:
                continue
            pixels += 1
            partition = sum(math.exp(score) for score in scores)
            for c, score in enumerate(scores):
                p, g = math.exp(score) / partition, float(target == c)
                overlap[c] += p * g
                predicted[c] += p**2
                present[c] += g**2
    if pixels == 0:
        return 0.0
    weights = [WEIGHTS[weight](g / pixels) if g else 0.0 for g in present]
    weights = [w if g else max(weights) for w, g in zip(weights, present, strict=True)]
    numerator = 2 * sum(w * x / pixels for w, x in zip(weights, overlap, strict=True))
    denominator = sum(w * (p + g) / pixels for w, p, g in zip(weights, predicted, present, strict=True)) + eps
    return 1 - numerator / denominator


@pytest.mark.parametrize("weight", list(WEIGHTS))
@pytest.mark.parametrize("eps", [1e-5, 1.0])
def test_equals_the_equation_as_loops(weight, eps):
    logits, label = make_images()
    per_image = [dice_by_loops(logits[i : i + 1], label[i : i + 1], weight, eps) for i in range(3)]
    loss = SquaredGeneralizedDiceLoss(weight, eps=eps)
    assert loss(logits, label).item() == pytest.approx(sum(per_image) / 3)
    pooled = SquaredGeneralizedDiceLoss(weight, batch=True, eps=eps)
    assert pooled(logits, label).item() == pytest.approx(dice_by_loops(logits, label, weight, eps))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("weight", list(WEIGHTS))
def test_equals_monai_on_hard_predictions(weight, batch):
    """Where every p is 0 or 1 a square changes nothing; MONAI knows no ignored pixels."""
    from monai.losses import GeneralizedDiceLoss

    logits, label = make_images()
    label[label == 255] = 1
    hard = torch.nn.functional.one_hot(logits.argmax(1), 4).movedim(-1, 1).double()
    oracle = GeneralizedDiceLoss(to_onehot_y=True, w_type=weight, batch=batch, smooth_nr=0, smooth_dr=0)
    value = SquaredGeneralizedDiceLoss(weight, batch, eps=1e-12)(hard * 1000, label)
    assert value.item() == pytest.approx(oracle(hard, label).item(), abs=1e-6)


@pytest.mark.parametrize("weight", list(WEIGHTS))
def test_a_perfect_prediction_costs_nothing(weight):
    _, label = make_images()
    logits = torch.nn.functional.one_hot(label.where(label != 255, 0)[:, 0], 4).movedim(-1, 1) * 50.0
    assert SquaredGeneralizedDiceLoss(weight)(logits, label).item() == pytest.approx(0, abs=1e-4)


def test_a_perfect_prediction_of_one_large_structure_costs_nothing():
    """With sums instead of means, eps = 1e-5 would make this 0.25."""
    logits = torch.zeros(1, 3, 256, 256)
    logits[:, 1] = 50
    assert SquaredGeneralizedDiceLoss()(logits, torch.ones(1, 1, 256, 256)).item() < 1e-4


def test_better_predictions_cost_less():
    _, label = make_images()
    right = torch.nn.functional.one_hot(label.where(label != 255, 0)[:, 0], 4).movedim(-1, 1).float()
    loss = SquaredGeneralizedDiceLoss()
    values = [loss(right * sharpness, label).item() for sharpness in (4.0, 2.0, 0.0, -2.0)]
    assert values == sorted(values)
    assert 0 < values[0] < values[-1] < 1


def test_predicting_an_absent_class_costs():
    label = torch.zeros(1, 1, 4, 4)
    label[..., 2:] = 1
    right = torch.zeros(1, 3, 4, 4)
    right[:, 0, :, :2], right[:, 1, :, 2:] = 9, 9
    wrong = right.clone()
    wrong[:, 2, 0, 0] = 12
    loss = SquaredGeneralizedDiceLoss()
    assert loss(wrong, label) > loss(right, label) + 0.01


@pytest.mark.parametrize("batch", [False, True])
def test_ignored_images_count_as_zero(batch):
    logits, label = make_images(2)
    label[1] = 255
    alone = SquaredGeneralizedDiceLoss(batch=batch)(logits[:1], label[:1]).item()
    expected = alone if batch else alone / 2
    assert SquaredGeneralizedDiceLoss(batch=batch)(logits, label).item() == pytest.approx(expected)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("images", [0, 2])
def test_nothing_to_compare_is_zero_and_connected(images, batch):
    logits = torch.randn(images, 3, 4, 4, requires_grad=True)
    value = SquaredGeneralizedDiceLoss(batch=batch)(logits, torch.full((images, 1, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("weight", list(WEIGHTS))
def test_gradients_are_right(weight, batch):
    logits, label = make_images(2, 3, 3, 2)
    label[1] = 255
    loss = SquaredGeneralizedDiceLoss(weight, batch)
    assert torch.autograd.gradcheck(lambda x: loss(x, label), logits.requires_grad_())


def test_refuses_wrong_arguments():
    with pytest.raises(ValueError, match=r"'squared'.*Did you mean 'square'"):
        SquaredGeneralizedDiceLoss("squared")
    with pytest.raises(ValueError, match="expected eps > 0, got 0"):
        SquaredGeneralizedDiceLoss(eps=0)
