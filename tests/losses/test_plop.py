"""PLOP: local POD, medians and pseudo-labels against loops; torch's median."""

from __future__ import annotations

import math

import pytest
import torch
from step_images import NO_NEW, NO_OLD, STEP, STEPS, make_images
from torch.nn import functional as F

from lap_monai.losses import EntropyMedians, LocalPodLoss, PseudoLabelLoss, confident_labels, prediction_entropy
from lap_monai.task_stream import Knowledge, TaskStep

# --- local POD -----------------------------------------------------------------------------------------------------


def pod_by_loops(a: torch.Tensor, b: torch.Tensor, scales: tuple[int, ...]) -> float:
    """The mean over the images of the Frobenius norm of the difference of all strips' means."""
    norms = []
    for image in range(len(a)):
        squares = 0.0
        for scale in scales:
            height, width = a.shape[2] // scale, a.shape[3] // scale
            for i in range(scale):
                for j in range(scale):
                    for channel in range(a.shape[1]):
                        box = (image, channel, slice(i * height, (i + 1) * height), slice(j * width, (j + 1) * width))
                        for axis in (0, 1):
                            strips = a[box].square().mean(axis) - b[box].square().mean(axis)
                            squares += sum(value**2 for value in strips.tolist())
        norms.append(math.sqrt(squares))
    return sum(norms) / len(norms)


@pytest.mark.parametrize("scales", [(1,), (2,), (1, 2, 4)])
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (12, 4)])
def test_local_pod_equals_its_definition_whatever_the_shape_of_the_map(size, scales):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 3, 2, *size, generator=generator, dtype=torch.float64)
    assert LocalPodLoss(scales)(a, b).item() == pytest.approx(pod_by_loops(a, b, scales))


def test_local_pod_sees_both_axes():
    """What is moved along an axis leaves the means along the other as they are."""
    rows = torch.zeros(1, 1, 4, 8)
    rows[:, :, 0] = 1
    for moved, stays in ((rows.roll(1, 2), rows), (rows[..., :4].mT.roll(1, 3), rows[..., :4].mT)):
        assert LocalPodLoss((1,))(moved, stays) > 0


def test_local_pod_of_several_layers_is_their_mean_and_of_none_that_differs_zero():
    generator = torch.Generator().manual_seed(0)
    a, b, c, d = (torch.rand(2, 3, 8, 8, generator=generator).requires_grad_() for _ in range(4))
    loss = LocalPodLoss()
    assert loss([a, b], [c, d]).item() == pytest.approx((loss(a, c) + loss(b, d)).item() / 2)
    same = loss([a, b], [a, b])
    same.backward()
    assert same == 0
    assert (a.grad == 0).all()
    assert c.grad is None


def test_local_pod_compares_logits_in_the_teachers_channels():
    logits, teacher = torch.rand(1, 5, 8, 8), torch.rand(1, 3, 8, 8)
    assert LocalPodLoss()(logits, teacher) == LocalPodLoss()(logits[:, :3], teacher)


def test_local_pod_gradients():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 1, 2, 4, 6, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: LocalPodLoss()(x, b), a.requires_grad_())


def test_local_pod_says_what_does_not_fit():
    with pytest.raises(ValueError, match="at least 4 pixels along each axis"):
        LocalPodLoss()(torch.rand(1, 2, 3, 8), torch.rand(1, 2, 3, 8))
    with pytest.raises(ValueError, match="at least 1 region"):
        LocalPodLoss(())


# --- medians -------------------------------------------------------------------------------------------------------


def test_entropy_is_zero_for_the_certain_and_one_for_the_clueless():
    certain = torch.tensor([1e4, 0, 0]).view(1, 3, 1, 1)
    assert prediction_entropy(certain).item() == 0
    assert prediction_entropy(torch.zeros(1, 3, 1, 1)).item() == pytest.approx(1)
    p = [0.7, 0.2, 0.1]
    expected = -sum(value * math.log(value) for value in p) / math.log(3)
    assert prediction_entropy(torch.tensor(p).log().view(1, 3, 1, 1)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_thresholds_are_the_true_medians_over_all_batches(count):
    """The middle value, not the middle bin: most entropies of a confident teacher share a few low bins."""
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(count, 3, 5, 4, generator=generator) * 12
    where = torch.rand(count, 1, 5, 4, generator=generator) < 0.7
    medians = EntropyMedians(3)
    for part in range(0, count, 3):
        medians.update(logits[part : part + 3], where[part : part + 3])
    entropy, predicted = prediction_entropy(logits), logits.argmax(1)
    for channel in range(3):
        mine = entropy[(predicted == channel) & where[:, 0]]
        expected = mine.median().item() if len(mine) else 0
        assert medians.thresholds()[channel].item() == pytest.approx(expected, abs=2 / 2**16)
        if len(mine):
            assert (mine <= medians.thresholds()[channel]).float().mean() >= 0.5


def test_a_class_that_nobody_predicted_is_never_sure():
    medians = EntropyMedians(3)
    medians.update(torch.tensor([5.0, 0, 0]).view(1, 3, 1, 1))
    assert medians.thresholds()[0] > 0
    assert medians.thresholds()[1:].tolist() == [0, 0]


# --- pseudo-labels -------------------------------------------------------------------------------------------------


def plop_by_loops(logits, label, teacher, thresholds):
    """Douillard et al. 2021, eq. 6 to 8, image by image."""
    total = 0.0
    for scores, ids, answers in zip(logits, label, teacher, strict=True):
        asked = accepted = 0
        loss = 0.0
        flat = zip(scores.flatten(1).T, ids.flatten().tolist(), answers.flatten(1).T, strict=True)
        for student, target, answer in flat:
            if target == 0:
                asked += 1
                p = answer.softmax(0)
                entropy = -sum(v * math.log(v) for v in p.tolist()) / math.log(len(p))
                guess = int(answer.argmax())
                if entropy > thresholds[guess]:
                    continue
                accepted += 1
                target = guess
            if target != 255:
                loss -= student.log_softmax(0)[target].item()
        total += (accepted / asked if asked else 1) * loss / ids.numel()
    return total / len(logits)


@pytest.mark.parametrize("thresholds", [(0.3, 0.5, 0.8), (0, 0, 0), (1, 1, 1)])
def test_pseudo_labels_equal_the_equations_as_loops(thresholds):
    logits, teacher, label = make_images()
    found = PseudoLabelLoss(STEP)(logits, label, teacher, torch.tensor(thresholds))
    assert found.item() == pytest.approx(plop_by_loops(logits, label, teacher, thresholds))


def test_the_teachers_background_may_be_a_new_class_that_nobody_drew():
    logits, teacher, label = make_images()
    knowledge = torch.zeros(3, 5, dtype=torch.uint8)
    knowledge[:, 4] = Knowledge.MASK
    loss = PseudoLabelLoss(STEP)
    q = logits.softmax(1)
    background_or_3 = torch.stack([q[:, 0] + q[:, 3], q[:, 1], q[:, 2], q[:, 4]], dim=1).log()
    label = torch.where(label == 3, 0, label)  # of which class 3 there is no drawing
    drawn = torch.where(label == 4, 3, label)  # the same in the four classes left
    merged = TaskStep(tuple("bcdf"), tuple("cd"), tuple("f"))
    expected = PseudoLabelLoss(merged)(background_or_3, drawn, teacher, torch.ones(3)).item()
    assert loss(logits, label, teacher, torch.ones(3), knowledge).item() == pytest.approx(expected)
    assert loss(logits, label, teacher, torch.ones(3)).item() != pytest.approx(expected)


def test_pseudo_labels_of_a_certain_teacher_are_the_teachers_classes():
    logits, teacher, label = make_images(NO_NEW)
    found = PseudoLabelLoss(NO_NEW)(logits, label, teacher * 1e4, torch.ones(3))
    target = torch.where(label == 0, teacher.argmax(1, keepdim=True), 255)[:, 0]
    expected = F.cross_entropy(logits, target, ignore_index=255, reduction="sum") / label.numel()
    assert found.item() == pytest.approx(expected.item())


def test_a_fully_labelled_image_is_plain_cross_entropy():
    logits, teacher, _ = make_images(STEP)
    label = torch.randint(3, 5, (3, 1, 4, 5), generator=torch.Generator().manual_seed(1))
    found = PseudoLabelLoss(STEP)(logits, label, teacher, torch.zeros(3))
    assert found.item() == pytest.approx(F.cross_entropy(logits, label[:, 0]).item())


def test_nothing_labelled_is_zero_and_connected():
    logits, teacher, label = make_images()
    logits.requires_grad_()
    value = PseudoLabelLoss(STEP)(logits, torch.zeros_like(label), teacher, torch.full((3,), -1.0))
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


def test_a_class_that_is_known_to_be_absent_is_no_pseudo_label():
    _, teacher, label = make_images()
    knowledge = torch.zeros(3, 5, dtype=torch.uint8)
    free, _ = confident_labels(label, teacher, torch.ones(3), knowledge)
    knowledge[:, 1] = Knowledge.ABSENT
    completed, share = confident_labels(label, teacher, torch.ones(3), knowledge)
    assert (free == 1).any()
    assert not (completed == 1).any()
    assert (completed[free == 1] == 255).all()
    assert (completed[free != 1] == free[free != 1]).all()
    assert (share < 1).all()


@pytest.mark.parametrize("step", [step for step in STEPS if step is not NO_OLD])
def test_pseudo_label_gradients(step):
    logits, teacher, label = make_images(step, images=2)
    loss, thresholds = PseudoLabelLoss(step), torch.full((1 + len(step.old),), 0.6)
    assert torch.autograd.gradcheck(lambda x: loss(x, label, teacher, thresholds), logits.requires_grad_())
