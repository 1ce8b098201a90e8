"""Losses under partial labels: plain loops over the candidates of each pixel, identities, and what they are for."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lap_monai.losses import MarginalSegmentationLoss, MaskedSigmoidLoss, SegmentationLoss
from lap_monai.task_stream import Knowledge, complete_knowledge

UNKNOWN, ABSENT, MASK = Knowledge.UNKNOWN, Knowledge.ABSENT, Knowledge.MASK
CHANNELS = 4

MARGINAL_CE = MarginalSegmentationLoss(dice_weight=0, gamma=0)
MARGINAL_DICE = MarginalSegmentationLoss(focal_weight=0)
BCE = MaskedSigmoidLoss(dice_weight=0)
DICE = MaskedSigmoidLoss(bce_weight=0)
LOSSES = pytest.mark.parametrize(
    "loss", [MARGINAL_CE, MARGINAL_DICE, BCE, DICE], ids=["marginal CE", "marginal Dice", "BCE", "Dice"]
)


def draw(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and knowledge of four images that know more and more; labels show drawn classes only."""
    generator = torch.Generator().manual_seed(seed)
    vectors = [
        [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN],
        [UNKNOWN, MASK, UNKNOWN, UNKNOWN],
        [UNKNOWN, UNKNOWN, MASK, ABSENT],
        [UNKNOWN, MASK, MASK, ABSENT],
    ]
    knowledge = torch.stack([torch.from_numpy(complete_knowledge(vector)) for vector in vectors])
    label = torch.randint(0, CHANNELS, (4, 1, 5, 6), generator=generator)
    drawn = torch.zeros(4, CHANNELS, dtype=torch.bool)
    drawn[:, 1:] = knowledge[:, 1:] == MASK
    label = label.where(drawn.gather(1, label.flatten(1)).view_as(label), 0)
    label[:, :, 0] = 255
    return torch.randn(4, CHANNELS, 5, 6, generator=generator, dtype=dtype), label, knowledge


def candidates(label: int, knowledge: list[int]) -> set[int]:
    """The table in `task_stream`, word by word."""
    if label == 255:
        return set(range(CHANNELS))
    if label > 0:
        return {label}
    return {0} | {c for c in range(1, CHANNELS) if knowledge[c] == UNKNOWN}


def pixels(image: Tensor, labels: Tensor) -> list[tuple[list[float], int]]:
    """(scores, label) of each pixel that is not ignored."""
    both = zip(image.flatten(1).T.tolist(), labels.flatten().tolist(), strict=True)
    return [(scores, label) for scores, label in both if label != 255]


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def marginal_ce_by_loops(logits: Tensor, labels: Tensor, knowledge: Tensor) -> float:
    images = []
    for image, label, vector in zip(logits, labels, knowledge.tolist(), strict=True):
        costs = []
        for scores, y in pixels(image, label):
            p = softmax(scores)
            costs.append(-math.log(sum(p[c] for c in candidates(y, vector))))
        images.append(sum(costs) / len(costs))
    return sum(images) / len(images)


def marginal_dice_by_loops(logits: Tensor, labels: Tensor, knowledge: Tensor, eps: float = 1e-5) -> float:
    images = []
    for image, label, vector in zip(logits, labels, knowledge.tolist(), strict=True):
        kept = [c for c in range(CHANNELS) if c == 0 or vector[c] != UNKNOWN]
        drawn = pixels(image, label)
        share = {c: sum(y == c for _, y in drawn) / len(drawn) for c in kept}
        weight = {c: share[c] ** -2 for c in kept if share[c]}
        overlap = size = 0.0
        for c in kept:
            w = weight.get(c, max(weight.values()))
            for scores, y in drawn:
                p = softmax(scores)
                # The folded background is all that is neither a kept class nor known not to be there.
                p_c = p[c] if c else 1 - sum(p[k] for k in kept if k)
                overlap += w * p_c * (y == c) / len(drawn)
                size += w * (p_c**2 + (y == c)) / len(drawn)
        images.append(1 - 2 * overlap / (size + eps))
    return sum(images) / len(images)


def known_pixels(image: Tensor, label: Tensor, vector: list[int], c: int) -> list[tuple[float, int]]:
    """(sigmoid, truth) of channel c where the candidates decide it."""
    found = []
    for scores, y in pixels(image, label):
        possible = candidates(y, vector)
        if c not in possible or possible == {c}:
            found.append((1 / (1 + math.exp(-scores[c])), int(c in possible)))
    return found


def bce_by_loops(logits: Tensor, labels: Tensor, knowledge: Tensor) -> float:
    images = []
    for image, label, vector in zip(logits, labels, knowledge.tolist(), strict=True):
        pairs = [pair for c in range(CHANNELS) for pair in known_pixels(image, label, vector, c)]
        costs = [-math.log(p if truth else 1 - p) for p, truth in pairs]
        images.append(sum(costs) / max(len(costs), 1))
    return sum(images) / len(images)


def dice_by_loops(logits: Tensor, labels: Tensor, knowledge: Tensor) -> float:
    images = []
    for image, label, vector in zip(logits, labels, knowledge.tolist(), strict=True):
        costs = []
        for c in range(CHANNELS):
            pairs = known_pixels(image, label, vector, c)
            if any(truth for _, truth in pairs):
                overlap = sum(p * truth for p, truth in pairs)
                costs.append(1 - 2 * overlap / sum(p * p + truth for p, truth in pairs))
        images.append(sum(costs) / max(len(costs), 1))
    return sum(images) / len(images)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("loss", "oracle"),
    [
        (MARGINAL_CE, marginal_ce_by_loops),
        (MARGINAL_DICE, marginal_dice_by_loops),
        (BCE, bce_by_loops),
        (DICE, dice_by_loops),
    ],
)
def test_equals_plain_loops(loss, oracle, seed):
    assert loss(*draw(seed)).item() == pytest.approx(oracle(*draw(seed)), rel=1e-9)


@LOSSES
def test_gradients_are_right(loss):
    logits, label, knowledge = draw()
    assert torch.autograd.gradcheck(lambda x: loss(x, label, knowledge), logits.requires_grad_())


def test_with_all_known_it_is_the_ordinary_loss():
    logits, label, _ = draw()
    for loss in (MarginalSegmentationLoss(), MarginalSegmentationLoss(0.5, 2, gamma=1, dice_class_weight="uniform")):
        same = SegmentationLoss(
            loss.dice_weight, loss.focal_weight, gamma=loss.focal.gamma, dice_class_weight=loss.dice.weight
        )
        for knowledge in (None, torch.full((4, CHANNELS), int(MASK)), torch.full((4, CHANNELS), int(ABSENT))):
            assert loss(logits, label, knowledge).item() == pytest.approx(same(logits, label).item())


def test_sigmoids_with_all_known_are_one_hot_targets():
    logits, label, _ = draw()
    logits, label = logits[:, :, 1:], label[:, :, 1:]  # no ignored pixel
    one_hot = F.one_hot(label[:, 0], CHANNELS).movedim(-1, 1).double()
    assert BCE(logits, label).item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, one_hot).item())


def test_with_the_old_classes_unknown_it_is_the_unbiased_cross_entropy():
    """Cermelli et al. 2020, eq. 3: a pixel of background may be background or any old class."""
    logits, label, _ = draw()
    label = label.where((label == 3) | (label == 255), 0)  # 1 and 2 are old, 3 is new
    label[0, 0, 1:, :2] = 3
    knowledge = torch.tensor([[UNKNOWN, UNKNOWN, UNKNOWN, MASK]]).expand(4, -1)
    log_p = logits.log_softmax(dim=1)
    unbiased = torch.stack([log_p[:, :3].logsumexp(dim=1), log_p[:, 3]], dim=1)
    expected = F.nll_loss(unbiased, label[:, 0].clamp_max(1).where(label[:, 0] != 255, -100))
    assert MARGINAL_CE(logits, label, knowledge).item() == pytest.approx(expected.item())


@LOSSES
def test_an_image_of_which_nothing_is_known_teaches_nothing(loss):
    logits, label, knowledge = (tensor[:1] for tensor in draw())
    logits.requires_grad_()
    value = loss(logits, label, knowledge)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad.abs().max() < 1e-5


@LOSSES
def test_no_image_and_no_valid_pixel_cost_nothing(loss):
    logits, label, knowledge = draw()
    for rows, labels in ((slice(0), label), (slice(None), torch.full_like(label, 255))):
        x = logits[rows].clone().requires_grad_()
        value = loss(x, labels[rows], knowledge[rows])
        value.backward()
        assert value.item() == 0
        assert not x.grad.any()


@LOSSES
def test_what_an_unknown_class_predicts_beyond_the_annotated_ones_is_free(loss):
    logits, label, knowledge = (tensor[1:2] for tensor in draw())  # class 1 drawn, 2 and 3 unknown
    x = logits.clone().requires_grad_()
    loss(x, label, knowledge).backward()
    free = x.grad[0, 2:, label[0, 0] == 0]
    if loss in (BCE, DICE):
        assert not free.any()
    else:  # the softmax ties classes: nothing is said of 2 against 3 against background, only of all against 1
        swapped = logits.clone()
        swapped[0, :, label[0, 0] == 0] = logits[0, [3, 1, 0, 2]][:, label[0, 0] == 0]
        assert loss(swapped, label, knowledge).item() == pytest.approx(loss(logits, label, knowledge).item())


@LOSSES
def test_on_an_annotated_structure_the_other_classes_are_negatives(loss):
    logits, label, knowledge = (tensor[1:2] for tensor in draw())
    x = logits.clone().requires_grad_()
    loss(x, label, knowledge).backward()
    if loss is not DICE:  # the Dice of a class that has no pixel in the image is left out
        assert (x.grad[0, 2:, label[0, 0] == 1] > 0).all()


@LOSSES
def test_computes_in_float32_and_stays_finite(loss):
    logits, label, knowledge = draw(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss(logits.bfloat16(), label, knowledge)
    assert half.dtype is torch.float32
    assert half == loss(logits.bfloat16().float(), label, knowledge)
    extreme = (logits * 1e4).requires_grad_()
    value = loss(extreme, label, knowledge)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(extreme.grad).all()


def test_the_background_head_can_be_left_out():
    logits, label, knowledge = draw()
    x = logits.clone().requires_grad_()
    MaskedSigmoidLoss(include_background=False)(x, label, knowledge).backward()
    assert not x.grad[:, 0].any()
    assert x.grad[:, 1:].any()


@pytest.mark.parametrize("loss", [MarginalSegmentationLoss(), MaskedSigmoidLoss()], ids=["marginal", "sigmoid"])
def test_two_organs_of_which_each_frame_annotates_one(loss):
    """What partial labels are about: with background-is-negative the rarely annotated organ is learnt as background.

    Both organs are in all frames; nine of ten annotate the first. A linear classifier of the (one-hot) colour of a
    pixel sees the second organ as unlabelled nine times, labelled once.
    """
    colours = torch.arange(3).repeat(4).view(1, 1, 3, 4).expand(10, 1, 3, 4)  # 0 background, 1 and 2 the organs
    frames = F.one_hot(colours[:, 0], 3).movedim(-1, 1).float()
    annotated = torch.tensor([1] * 9 + [2])
    label = colours.where(colours == annotated.view(-1, 1, 1, 1), 0)
    knowledge = torch.zeros(10, 3, dtype=torch.uint8)
    knowledge[range(10), annotated] = int(MASK)
    # One frame in which all is known tells background from organs, as weak labels or a multi-label frame do.
    frames, label = torch.cat([frames, frames[:1]]), torch.cat([label, colours[:1]])
    knowledge = torch.cat([knowledge, torch.full((1, 3), int(MASK), dtype=torch.uint8)])

    def learnt(known: Tensor | None) -> list[int]:
        weight = torch.zeros(3, 3, requires_grad=True)
        optimiser = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

        def cost() -> Tensor:
            optimiser.zero_grad()
            value = loss(torch.einsum("ck,mkhw->mchw", weight, frames), label, known) + 1e-3 * weight.square().sum()
            value.backward()
            return value

        optimiser.step(cost)
        return weight.argmax(dim=0).tolist()  # class of each colour

    assert learnt(knowledge) == [0, 1, 2]
    assert learnt(None) == [0, 1, 0]


def test_says_what_is_wrong():
    logits, label, knowledge = draw()
    with pytest.raises(ValueError, match=r"knowledge of shape \(M, C\) = \(4, 4\), got \(4, 3\)"):
        MarginalSegmentationLoss()(logits, label, knowledge[:, :3])
    with pytest.raises(ValueError, match="MaskedSigmoidLoss: label 7 is none of the 4 classes"):
        MaskedSigmoidLoss()(logits, label.where(label != 0, 7), knowledge)
    with pytest.raises(ValueError, match="one of them > 0"):
        MaskedSigmoidLoss(0, 0)
