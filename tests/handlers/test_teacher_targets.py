"""What a teacher and an expert say, asked once, and labels completed by it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lap_monai.data import unpack_soft_targets
from lap_monai.handlers import EntropyThresholds, PseudoLabels, TeacherTargets
from lap_monai.losses import prediction_entropy
from lap_monai.task_stream import TaskStep

STEP = TaskStep(("background", "colon", "liver", "ureter"), ("liver",), ("ureter", "colon"))


class Counting(torch.nn.Conv2d):
    """A one-layer network that counts the images it is asked about."""

    def __init__(self, channels: int) -> None:
        super().__init__(3, channels, 1)
        self.asked = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.asked += len(image)
        return super().forward(image) * 20


def make_engine(real: int = 2, synthetic: int = 2, soft: torch.Tensor | None = None) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    count = real + synthetic
    image = torch.rand(count, 3, 4, 4, generator=generator)
    label = torch.zeros(count, 1, 4, 4, dtype=torch.uint8)
    label[:, :, 0] = 2
    label[real:] = 255
    batch = {
        "image": image,
        "label": label,
        "has_mask": torch.arange(count) < real,
        "knowledge": torch.zeros(count, 4, dtype=torch.uint8),
    }
    if soft is not None:
        batch["soft_targets"] = soft
    state = SimpleNamespace(device=torch.device("cpu"), batch=batch, output={"image": image, "label": label})
    return SimpleNamespace(state=state)


@pytest.fixture
def teacher() -> Counting:
    torch.manual_seed(0)
    return Counting(2)


@pytest.fixture
def expert() -> Counting:
    torch.manual_seed(1)
    return Counting(3)


def test_each_network_is_asked_once_about_what_it_knows(teacher: Counting, expert: Counting) -> None:
    engine = make_engine()
    TeacherTargets(teacher, expert)(engine)
    assert (teacher.asked, expert.asked) == (4, 2)
    image = engine.state.batch["image"]
    assert torch.equal(engine.state.teacher_logits, teacher(image))
    assert torch.equal(engine.state.expert_logits, expert(image[2:]))
    assert engine.state.teacher_ignore is None
    assert not engine.state.teacher_logits.requires_grad


@pytest.mark.parametrize("real", [0, 2])
def test_nobody_is_asked_about_images_whose_answers_lie_at_hand(teacher: Counting, expert: Counting, real: int) -> None:
    soft = torch.randint(1, 255, (real + 2, 5, 4, 4), dtype=torch.uint8)
    soft[-1, :, 3] = 255
    soft[:real] = 0
    engine = make_engine(real, 2, soft)
    TeacherTargets(teacher, expert)(engine)
    assert expert.asked == 0
    assert teacher.asked == (real or 1)  # a batch without real images tells no channel count
    logits, ignore = unpack_soft_targets(soft[real:])
    torch.testing.assert_close(engine.state.teacher_logits[real:], logits[:, :2])
    torch.testing.assert_close(engine.state.expert_logits, logits[:, 2:])
    assert engine.state.teacher_ignore.shape == (real + 2, 1, 4, 4)
    assert torch.equal(engine.state.teacher_ignore[real:], ignore)
    assert not engine.state.teacher_ignore[:real].any()


def test_nobody_is_asked_where_the_answers_about_real_images_lie_at_hand_too(
    teacher: Counting, expert: Counting
) -> None:
    soft = torch.randint(1, 255, (4, 5, 4, 4), dtype=torch.uint8)
    told = {}
    for everywhere in (False, True):
        engine = make_engine(2, 2, soft)
        TeacherTargets(teacher, expert, expert_on_real=everywhere)(engine)
        told[everywhere] = engine.state.expert_logits
        torch.testing.assert_close(engine.state.teacher_logits, unpack_soft_targets(soft)[0][:, :2])
    assert expert.asked == 0
    torch.testing.assert_close(told[True], unpack_soft_targets(soft)[0][:, 2:])
    assert torch.equal(told[False], told[True][2:])


def test_the_expert_may_be_asked_about_real_images_too(teacher: Counting, expert: Counting) -> None:
    soft = torch.randint(1, 255, (4, 5, 4, 4), dtype=torch.uint8)
    soft[:2] = 0
    told = {}
    for name, engine in {"asked": make_engine(), "at hand": make_engine(2, 2, soft)}.items():
        TeacherTargets(teacher, expert, expert_on_real=True)(engine)
        told[name] = engine.state.expert_logits
        torch.testing.assert_close(told[name][:2], expert(engine.state.batch["image"][:2]))
    torch.testing.assert_close(told["at hand"][2:], unpack_soft_targets(soft[2:])[0][:, 2:])
    assert told["asked"].shape == told["at hand"].shape


def test_the_expert_completes_real_labels_where_they_say_nothing(teacher: Counting, expert: Counting) -> None:
    engine = make_engine()
    TeacherTargets(teacher, expert, expert_on_real=True)(engine)
    PseudoLabels(STEP)(engine)
    free = engine.state.pseudo_label[:2]
    assert (free[:, :, 1:] == 3).any()
    assert (free[:, :, 0] == 2).all(), "drawn"
    engine.state.batch["knowledge"][:2, 3] = 2  # the class was drawn, and is not there
    PseudoLabels(STEP)(engine)
    assert not (engine.state.pseudo_label[:2, :, 1:] == 3).any()


def test_a_batch_of_real_images_has_no_expert(teacher: Counting, expert: Counting) -> None:
    engine = make_engine(3, 0)
    TeacherTargets(teacher, expert)(engine)
    assert engine.state.expert_logits is None
    assert expert.asked == 0


def test_labels_are_completed_by_the_teacher_and_on_synthetic_images_by_the_expert_too(
    teacher: Counting, expert: Counting
) -> None:
    engine = make_engine()
    TeacherTargets(teacher, expert)(engine)
    PseudoLabels(STEP)(engine)
    found = engine.state.pseudo_label
    old = engine.state.teacher_logits.softmax(1)[:, 1:] >= 0.7
    assert (found[:2, :, 0] == 2).all()  # drawn
    assert torch.equal(found[:2, :, 1:] == 1, old[:2, :, 1:])
    assert torch.equal(found[2:] == 1, old[2:])
    p, new = engine.state.expert_logits.softmax(1)[:, 1:].max(1, keepdim=True)
    expected = torch.where(p >= 0.7, new + 2, 255)
    assert torch.equal(found[2:][~old[2:]], expected[~old[2:]])
    assert (engine.state.output["label"][2:] == 255).all()  # the labels stay as they came


def test_without_a_teacher_labels_stay() -> None:
    engine = make_engine()
    PseudoLabels(STEP)(engine)
    assert torch.equal(engine.state.pseudo_label, engine.state.output["label"])
    with pytest.raises(ValueError, match=r"above 0\.5 and up to 1, got 0\.5"):
        PseudoLabels(STEP, confidence=0.5)


def test_thresholds_are_medians_over_all_unlabelled_pixels(teacher: Counting) -> None:
    batches = [make_engine(3, 0).state.batch, make_engine(2, 0).state.batch]
    engine = make_engine()
    EntropyThresholds(teacher, batches, 2, lambda image, network: network(image))(engine)
    with torch.no_grad():
        logits = torch.cat([teacher(batch["image"]) for batch in batches])
    entropy = prediction_entropy(logits)
    asked = torch.cat([batch["label"] for batch in batches])[:, 0] == 0
    for channel in range(2):
        mine = entropy[(logits.argmax(1) == channel) & asked]
        assert len(mine)
        assert engine.state.entropy_thresholds[channel].item() == pytest.approx(mine.median().item(), abs=2 / 2**16)
