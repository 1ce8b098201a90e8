"""The distillation loss against its definition as loops, and torch's Kullback-Leibler divergence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lap_monai.losses import DistillationLoss


def make_images(images: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits of 4 classes of a student and a teacher, and labels with a few ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, images, 4, 3, 5, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 4, (images, 1, 3, 5), generator=generator)
    for image in range(images):
        label[image, :, :, :image] = 255
    return student, teacher, label


def softmax(scores: list[float], temperature: float) -> list[float]:
    weights = [math.exp(score / temperature) for score in scores]
    return [weight / sum(weights) for weight in weights]


def by_loops(student: Tensor, teacher: Tensor, label: Tensor, temperature: float) -> float:
    """Return the divergence of one image, the mean over its pixels that count."""
    total, pixels = 0.0, 0
    rows = (student.flatten(1).T.tolist(), teacher.flatten(1).T.tolist(), label.flatten().tolist())
    for ours, theirs, target in zip(*rows, strict=True):
        if target != 255:
            q, p = softmax(ours, temperature), softmax(theirs, temperature)
            total += temperature**2 * sum(p[c] * math.log(p[c] / q[c]) for c in range(4))
            pixels += 1
    return total / pixels


@pytest.mark.parametrize("temperature", [0.5, 1, 2, 8])
def test_equals_the_definition_as_loops(temperature):
    student, teacher, label = make_images()
    expected = sum(by_loops(student[i], teacher[i], label[i], temperature) for i in range(3)) / 3
    assert DistillationLoss(temperature)(student, teacher, label).item() == pytest.approx(expected)


def test_without_labels_every_pixel_counts():
    student, teacher, label = make_images()
    loss = DistillationLoss()
    assert loss(student, teacher) == loss(student, teacher, torch.zeros_like(label))
    assert loss(student, teacher) != loss(student, teacher, label)


def test_equals_torchs_divergence():
    student, teacher, _ = make_images()
    expected = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True).sum(1).mean()
    assert DistillationLoss(1)(student, teacher).item() == pytest.approx(expected.item())


def test_is_zero_only_for_a_student_that_agrees():
    student, teacher, _ = make_images()
    loss = DistillationLoss()
    assert loss(teacher + 3, teacher).item() == pytest.approx(0, abs=1e-12)  # a shift of all classes changes nothing
    assert loss(student, teacher) > 0


def test_only_the_student_learns_and_ignored_pixels_teach_nothing():
    student, teacher, label = (tensor.clone() for tensor in make_images())
    student.requires_grad_()
    teacher.requires_grad_()
    DistillationLoss()(student, teacher, label).backward()
    assert teacher.grad is None
    counted = (label != 255).expand_as(student)
    assert (student.grad[counted] != 0).all()
    assert (student.grad[~counted] == 0).all()


def test_gradient():
    student, teacher, label = make_images()
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: DistillationLoss(3)(logits, teacher, label), student)


def test_the_gradient_keeps_its_scale_when_the_temperature_rises():
    """Hinton et al. 2015: that is what the factor is for."""
    student, teacher, _ = make_images()
    norms = []
    for temperature in (20, 80):
        logits = student.clone().requires_grad_()
        DistillationLoss(temperature)(logits, teacher).backward()
        norms.append(logits.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


def test_nothing_that_counts_gives_zero_and_a_gradient_of_zero():
    student, teacher, label = make_images()
    student.requires_grad_()
    DistillationLoss()(student, teacher, torch.full_like(label, 255)).backward()
    assert (student.grad == 0).all()
    none = DistillationLoss()(student[:0], teacher[:0], label[:0])
    assert none == 0
    assert none.requires_grad


def test_is_computed_in_full_precision():
    student, teacher, _ = (tensor.bfloat16() for tensor in make_images())
    loss = DistillationLoss()(student, teacher)
    assert loss.dtype is torch.float32
    assert loss == DistillationLoss()(student.float(), teacher.float())


def test_says_what_does_not_fit():
    student, teacher, label = make_images()
    with pytest.raises(ValueError, match=r"temperature > 0, got 0"):
        DistillationLoss(0)
    with pytest.raises(ValueError, match=r"got \(3, 4, 3, 5\) and \(3, 3, 3, 5\)"):
        DistillationLoss()(student, teacher[:, :3])
    with pytest.raises(ValueError, match=r"expected labels of shape \(3, 1, 3, 5\)"):
        DistillationLoss()(student, teacher, label[:2])
