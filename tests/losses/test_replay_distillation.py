"""DDCL's distillation against its definition as loops, and completed labels."""

from __future__ import annotations

import math

import pytest
import torch
from step_images import NO_NEW, NO_OLD, ONE_EACH, STEP, STEPS, make_images, pixels

from lap_monai.losses import (
    DistillationLoss,
    ReplayDistillationLoss,
    SigmoidReplayDistillationLoss,
    UnbiasedDistillationLoss,
    complete_labels,
    labelled_first,
    merge_by_odds,
    teacher_channels,
)
from lap_monai.task_stream import Knowledge

LABELLED = torch.tensor([True, True, False])


def make_expert(step=STEP, images=1, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, 1 + len(step.new), 4, 5, generator=generator, dtype=torch.float64)


def softmax(scores):
    weights = [math.exp(score) for score in scores]
    return [weight / sum(weights) for weight in weights]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def by_loops(step, logits, teacher, expert):
    """The mean over two real images and a synthetic one."""
    total = 0.0
    for image in range(3):
        terms = []
        answers = pixels(expert) if image == 2 else [None] * 20
        rows = (pixels(logits[image : image + 1]), pixels(teacher[image : image + 1]), answers)
        for student, old, new in zip(*rows, strict=True):
            q, p = softmax(student), softmax(old)
            if new is None:
                q = [q[0] + sum(q[c] for c in step.new_channels), *(q[c] for c in step.old_channels)]
            else:
                e = softmax(new)
                odds = [1, *(value / p[0] for value in p[1:]), *(value / e[0] for value in e[1:])]
                p = [value / sum(odds) for value in odds]
            terms.append(divergence(p, q))
        total += sum(terms) / len(terms)
    return total / 3


@pytest.mark.parametrize("step", STEPS)
def test_on_synthetic_images_teacher_and_expert_are_merged_by_their_odds(step):
    logits, teacher, _ = make_images(step)
    expert = make_expert(step)
    found = ReplayDistillationLoss(step)(logits, teacher, expert)
    assert found.item() == pytest.approx(by_loops(step, logits, teacher, expert))


def test_merged_answers_are_a_distribution_that_keeps_what_each_says_of_its_classes_and_background():
    _, teacher, _ = make_images(STEP)
    expert = make_expert(images=3)
    p = merge_by_odds(teacher, expert).exp()
    torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]))
    for channels, said in (([0, 1, 2], teacher), ([0, 3, 4], expert)):
        torch.testing.assert_close(p[:, channels] / p[:, channels].sum(1, keepdim=True), said.softmax(1))


@pytest.mark.parametrize(("old", "new", "wins"), [(0.9, 0.6, 1), (0.6, 0.9, 2), (0.3, 0.2, 0)])
def test_who_is_surer_that_it_is_no_background_wins(old, new, wins):
    teacher, expert = (torch.tensor([1 - p, p]).log().view(1, 2, 1, 1) for p in (old, new))
    assert merge_by_odds(teacher, expert).argmax().item() == wins


def test_without_an_expert_it_is_the_unbiased_distillation_of_all_images():
    logits, teacher, _ = make_images(STEP)
    expected = UnbiasedDistillationLoss(STEP)(logits, teacher)
    assert ReplayDistillationLoss(STEP)(logits, teacher).item() == pytest.approx(expected.item())


def test_without_new_classes_it_is_plain_distillation():
    logits, teacher, _ = make_images(NO_NEW)
    expert = torch.zeros(1, 1, 4, 5)
    expected = DistillationLoss(1)(logits, teacher).item()
    assert ReplayDistillationLoss(NO_NEW)(logits, teacher, expert).item() == pytest.approx(expected)


def test_without_old_classes_the_expert_teaches_alone():
    logits, teacher, _ = make_images(NO_OLD)
    expert = make_expert(NO_OLD)
    expected = DistillationLoss(1)(logits[2:], expert).item() / 3
    assert ReplayDistillationLoss(NO_OLD)(logits, teacher, expert).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [ReplayDistillationLoss, SigmoidReplayDistillationLoss])
def test_a_student_that_agrees_with_both_has_loss_and_gradient_zero(loss):
    _, teacher, _ = make_images(STEP)
    expert = make_expert(images=3)
    agreeing = merge_by_odds(teacher, expert)
    if loss is SigmoidReplayDistillationLoss:
        agreeing = torch.cat([teacher, expert[:, 1:]], dim=1)
    agreeing.requires_grad_()
    value = loss(STEP)(agreeing, teacher, expert)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert agreeing.grad.abs().max() < 1e-12


def test_sigmoids_ask_the_teacher_for_old_and_the_expert_for_new_classes():
    logits, teacher, _ = make_images(STEP)
    expert = make_expert()
    total = 0.0
    for image in range(3):
        answers = pixels(expert) if image == 2 else [[0.0]] * 20
        rows = (pixels(logits[image : image + 1]), pixels(teacher[image : image + 1]), answers)
        terms = []
        for student, old, new in zip(*rows, strict=True):
            targets = [1 / (1 + math.exp(-v)) for v in (*old[1:], *new[1:])]
            mine = [1 / (1 + math.exp(-v)) for v in student[1 : 1 + len(targets)]]
            pairs = zip(targets, mine, strict=True)
            terms.append(sum(divergence((p, 1 - p), (q, 1 - q)) for p, q in pairs) / len(targets))
        total += sum(terms) / len(terms)
    found = SigmoidReplayDistillationLoss(STEP)(logits, teacher, expert)
    assert found.item() == pytest.approx(total / 3)


def test_hard_targets_are_the_cross_entropy_with_the_likeliest_class():
    logits, teacher, _ = make_images(STEP)
    expert = make_expert(images=3)
    target = merge_by_odds(teacher, expert).argmax(1)
    expected = torch.nn.functional.cross_entropy(logits, target)
    found = ReplayDistillationLoss(STEP, hard=True)(logits, teacher, expert)
    assert found.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("loss", [ReplayDistillationLoss, SigmoidReplayDistillationLoss])
def test_ignored_pixels_teach_nothing(loss):
    logits, teacher, _ = make_images(STEP)
    ignore = torch.zeros(3, 1, 4, 5, dtype=torch.uint8)
    ignore[2, :, :2] = 255
    logits.requires_grad_()
    value = loss(STEP)(logits, teacher, make_expert(), ignore)
    value.backward()
    assert (logits.grad[2, :, :2] == 0).all()
    assert (logits.grad[:2].abs().sum(1) > 0).all()
    upper = loss(STEP)(logits[2:, :, 2:], teacher[2:, :, 2:], make_expert()[:, :, 2:])
    others = loss(STEP)(logits[:2], teacher[:2])
    assert value.item() == pytest.approx((2 * others + upper).item() / 3)


@pytest.mark.parametrize("loss", [ReplayDistillationLoss, SigmoidReplayDistillationLoss])
def test_the_teacher_is_not_asked_about_pixels_that_carry_a_class(loss):
    logits, teacher, label = make_images(STEP)
    label[2] = 255
    logits.requires_grad_()
    drawn = (label != 0) & (label != 255)
    value = loss(STEP)(logits, teacher, make_expert(), label=label)
    value.backward()
    assert drawn.any()
    assert (logits.grad.abs().sum(1, keepdim=True) > 0).logical_xor(drawn).all()
    as_if_ignored = loss(STEP)(logits, teacher, make_expert(), drawn * 255)
    assert value.item() == pytest.approx(as_if_ignored.item())


@pytest.mark.parametrize("loss", [ReplayDistillationLoss, SigmoidReplayDistillationLoss])
@pytest.mark.parametrize("said", [Knowledge.ABSENT, Knowledge.MASK])
def test_the_teacher_is_not_believed_against_the_labels(loss, said):
    """Of a class that is known not to be there a teacher may say what it likes."""
    logits, teacher, _ = make_images(STEP)
    knowledge = torch.zeros(3, 5, dtype=torch.uint8)
    knowledge[0, 2] = said
    wild = teacher.clone()
    wild[0, 2] += 7
    expert = make_expert()
    believed, found, wildly = (
        loss(STEP)(logits, answers, expert, knowledge=known).item()
        for answers, known in ((teacher, None), (teacher, knowledge), (wild, knowledge))
    )
    assert found == pytest.approx(wildly)
    assert found != pytest.approx(believed)
    sure = teacher.clone()
    sure[0, 2] = -1e4
    assert found == pytest.approx(loss(STEP)(logits, sure, expert).item())


@pytest.mark.parametrize("loss", [ReplayDistillationLoss, SigmoidReplayDistillationLoss])
def test_the_expert_is_not_believed_against_the_labels_either(loss):
    logits, teacher, _ = make_images(STEP)
    knowledge = torch.zeros(3, 5, dtype=torch.uint8)
    knowledge[0, 4] = Knowledge.MASK
    expert = make_expert(images=3)
    wild, sure = expert.clone(), expert.clone()
    wild[0, 2] += 7
    sure[0, 2] = -1e4
    found, wildly = (loss(STEP)(logits, teacher, e, knowledge=knowledge).item() for e in (expert, wild))
    assert found == pytest.approx(wildly)
    assert found == pytest.approx(loss(STEP)(logits, teacher, sure).item())


@pytest.mark.parametrize("loss", [ReplayDistillationLoss, SigmoidReplayDistillationLoss])
def test_labels_that_say_nothing_change_nothing(loss):
    logits, teacher, label = make_images(STEP)
    knowledge = torch.zeros(3, 5, dtype=torch.uint8)
    knowledge[:2, list(STEP.new_channels)] = Knowledge.MASK
    expected = loss(STEP)(logits, teacher, make_expert()).item()
    found = loss(STEP)(logits, teacher, make_expert(), None, torch.zeros_like(label), knowledge)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [ReplayDistillationLoss, SigmoidReplayDistillationLoss])
def test_gradients(loss):
    logits, teacher, _ = make_images(ONE_EACH)
    expert = make_expert(ONE_EACH)
    assert torch.autograd.gradcheck(lambda x: loss(ONE_EACH)(x, teacher, expert), logits.requires_grad_())


def test_images_with_labels_come_first():
    assert labelled_first(LABELLED) == 2
    assert labelled_first(LABELLED[2:]) == 0
    with pytest.raises(ValueError, match="labels first"):
        labelled_first(~LABELLED)


# --- completed labels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigmoid", [False, True])
def test_labels_are_completed_where_the_teacher_is_confident_and_nobody_labelled(sigmoid):
    _, teacher, label = make_images(STEP)
    p = teacher.sigmoid() if sigmoid else teacher.softmax(1)
    found = complete_labels(label, teacher, teacher_channels(STEP), confidence=0.7, sigmoid=sigmoid)
    filled = 0
    for before, after, probabilities in zip(label.flatten().tolist(), found.flatten().tolist(), pixels(p), strict=True):
        best = max(probabilities[1:])
        expected = probabilities.index(best) if before == 0 and best >= 0.7 else before
        filled += after != before
        assert after == expected
    assert 5 < filled < 40


def test_an_images_that_has_no_labels_is_completed_everywhere():
    _, teacher, label = make_images(STEP)
    label[2] = 255
    alone = complete_labels(label, teacher, (0, 1, 2))
    found = complete_labels(label, teacher, (0, 1, 2), labelled=LABELLED)
    assert (alone[2] == 255).all()
    assert set(found[2].unique().tolist()) == {1, 2, 255}
    assert torch.equal(found[:2], alone[:2])


def test_an_expert_fills_in_channels_of_its_own():
    expert = make_expert() * 10
    found = complete_labels(torch.zeros(1, 1, 4, 5), expert, (0, *STEP.new_channels))
    assert set(found.unique().tolist()) == {0, 3, 4}


def test_what_labels_say_is_not_asked_again():
    _, teacher, label = make_images(STEP)
    knowledge = torch.zeros(3, 5, dtype=torch.uint8)
    knowledge[0, 2] = Knowledge.ABSENT
    found = complete_labels(label, teacher, (0, 1, 2), knowledge=knowledge)
    assert 2 not in found[0]
    assert 2 in found[1]


def test_a_teacher_of_the_background_alone_completes_nothing():
    _, teacher, label = make_images(NO_OLD)
    assert torch.equal(complete_labels(label, teacher, (0,)), label)
