"""Distillation from the network of the step before: LwF, ILT and MiB against their equations as loops."""

from __future__ import annotations

import math

import pytest
import torch
from step_images import NO_NEW, NO_OLD, STEP, STEPS, make_images, pixels

from lap_monai.losses import (
    DistillationLoss,
    FeatureDistillationLoss,
    MarginalSegmentationLoss,
    OldClassDistillationLoss,
    UnbiasedDistillationLoss,
    fold_into_background,
)
from lap_monai.task_stream import Knowledge


def softmax(scores):
    weights = [math.exp(score) for score in scores]
    return [weight / sum(weights) for weight in weights]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("step", STEPS)
def test_lwf_is_the_divergence_of_softmaxes_over_what_the_teacher_knows(step):
    logits, teacher, _ = make_images(step)
    known = 1 + len(step.old)
    pairs = zip(pixels(logits), pixels(teacher), strict=True)
    terms = [divergence(softmax(theirs), softmax(ours[:known])) for ours, theirs in pairs]
    assert OldClassDistillationLoss(step)(logits, teacher).item() == pytest.approx(sum(terms) / len(terms))


@pytest.mark.parametrize("step", STEPS)
def test_mib_adds_the_new_classes_to_the_background(step):
    """Cermelli et al. 2020, eq. 7 and 8, less the teacher's entropy."""
    logits, teacher, _ = make_images(step)
    terms = []
    for ours, theirs in zip(pixels(logits), pixels(teacher), strict=True):
        p = softmax(ours)
        folded = [p[0] + sum(p[c] for c in step.new_channels), *(p[c] for c in step.old_channels)]
        terms.append(divergence(softmax(theirs), folded))
    assert UnbiasedDistillationLoss(step)(logits, teacher).item() == pytest.approx(sum(terms) / len(terms))


@pytest.mark.parametrize("loss", [OldClassDistillationLoss, UnbiasedDistillationLoss])
def test_without_new_classes_it_is_plain_distillation(loss):
    logits, teacher, _ = make_images(NO_NEW)
    expected = DistillationLoss(1)(logits, teacher).item()
    assert loss(NO_NEW)(logits, teacher).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [OldClassDistillationLoss, UnbiasedDistillationLoss])
def test_a_teacher_of_the_background_alone_teaches_nothing(loss):
    logits, teacher, _ = make_images(NO_OLD)
    logits.requires_grad_()
    value = loss(NO_OLD)(logits, teacher)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert logits.grad.abs().max() < 1e-12


def test_a_student_that_agrees_has_loss_and_gradient_zero():
    logits, _, _ = make_images(STEP)
    logits.requires_grad_()
    lwf, mib = OldClassDistillationLoss(STEP), UnbiasedDistillationLoss(STEP)
    folded = fold_into_background(logits.detach().log_softmax(1), STEP.new_channels)
    for loss, teacher in ((lwf, logits.detach()[:, :3]), (mib, folded)):
        logits.grad = None
        value = loss(logits, teacher)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert logits.grad.abs().max() < 1e-12


def test_only_mib_lets_the_student_turn_background_into_new_classes():
    logits, _, _ = make_images(STEP)
    teacher = logits[:, :3].clone()
    logits[:, 0] = teacher[:, 0] - 5  # the student moved its background ...
    moved = torch.full_like(logits[:, :1], 0.5).log() + (teacher[:, :1].exp() - logits[:, :1].exp()).log()
    logits = torch.cat([logits[:, :3], moved, moved], dim=1)  # ... to the two new classes
    assert UnbiasedDistillationLoss(STEP)(logits, teacher).item() == pytest.approx(0, abs=1e-9)
    assert OldClassDistillationLoss(STEP)(logits, teacher) > 0.01


@pytest.mark.parametrize("loss", [OldClassDistillationLoss, UnbiasedDistillationLoss])
def test_gradients(loss):
    logits, teacher, _ = make_images(STEP, images=1)
    assert torch.autograd.gradcheck(lambda x: loss(STEP)(x, teacher), logits.requires_grad_())


def test_the_unbiased_cross_entropy_is_the_marginal_loss_with_old_classes_unknown():
    """Cermelli et al. 2020, eq. 3 to 6, as loops."""
    logits, _, label = make_images(STEP)
    terms = []
    for image in range(3):
        mine = []
        for scores, ids in zip(pixels(logits[image : image + 1]), label[image].flatten().tolist(), strict=True):
            if ids != 255:
                p = softmax(scores)
                mine.append(-math.log(p[ids] if ids else p[0] + sum(p[c] for c in STEP.old_channels)))
        terms.append(sum(mine) / len(mine))
    knowledge = torch.full((3, STEP.num_channels), int(Knowledge.MASK))
    knowledge[:, list(STEP.old_channels)] = Knowledge.UNKNOWN
    found = MarginalSegmentationLoss(dice_weight=0, gamma=0)(logits, label, knowledge)
    assert found.item() == pytest.approx(sum(terms) / 3)


@pytest.mark.parametrize("loss", [OldClassDistillationLoss, UnbiasedDistillationLoss])
def test_a_teacher_of_other_classes_is_refused(loss):
    logits, teacher, _ = make_images(STEP)
    with pytest.raises(ValueError, match=r"background and the old classes \['liver', 'ureter'\], got \(3, 2, 4, 5\)"):
        loss(STEP)(logits, teacher[:, :2])
    with pytest.raises(ValueError, match=r"expected logits of shape \(B, 5, H, W\), got \(3, 4, 4, 5\)"):
        loss(STEP)(logits[:, :4], teacher)


def test_ilt_compares_the_deepest_features():
    generator = torch.Generator().manual_seed(0)
    fine, deep, other = torch.rand(1, 2, 4, 4), *torch.rand(2, 1, 3, 2, 2, generator=generator)
    differences = [(a - b) ** 2 for a, b in zip(deep.flatten().tolist(), other.flatten().tolist(), strict=True)]
    deep.requires_grad_()
    other.requires_grad_()
    value = FeatureDistillationLoss()((fine, deep), (fine + 1, other))
    assert value.item() == pytest.approx(sum(differences) / len(differences))
    value.backward()
    assert other.grad is None
    assert FeatureDistillationLoss()((fine, deep), (fine, deep)).item() == 0
