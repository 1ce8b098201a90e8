"""A teacher asked once an iteration, by a stock trainer."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn

from lap_monai.handlers import LossInjector, PrepareMixedBatch, TeacherPredictions, UnpackOutputs, loss_terms
from lap_monai.losses import DistillationLoss
from lap_monai.networks import MultiTaskSegmenter

CLASSES = 3


class CountingTeacher(nn.Module):
    """Maps an image to logits, and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layer = nn.Conv2d(3, CLASSES, 1)
        self.shown: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.shown.append(image)
        return self.layer(image)


def batches(count: int, masked: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "image": torch.rand(4, 3, 32, 32, generator=generator),
            "label": torch.full((4, 1, 32, 32), 255),
            "has_mask": torch.arange(4) < masked,
        }
        for _ in range(count)
    ]


def train(network: nn.Module, handlers: list, masked: int = 4, steps: int = 3) -> SupervisedTrainer:
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches(steps, masked),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=0.05),
        loss_function=lambda logits, _: logits.sum() * 0,
        prepare_batch=PrepareMixedBatch(),
        train_handlers=[UnpackOutputs(), *handlers],
        decollate=False,
    )
    trainer.run()
    return trainer


class Plain(nn.Module):
    """A network of one layer that takes the number of images to decode, as `MultiTaskSegmenter` does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Conv2d(3, CLASSES, 1)

    def forward(self, image: torch.Tensor, decode: int | None = None) -> torch.Tensor:
        return self.layer(image[:decode])


def test_a_student_learns_from_its_teacher_alone():
    teacher, student = CountingTeacher(), Plain()
    before = teacher.layer.weight.clone()
    inputs = ["pred", "teacher_logits"]
    handlers = [TeacherPredictions(teacher), LossInjector("distillation", DistillationLoss(), inputs)]
    image = batches(1, 4)[0]["image"]
    start = DistillationLoss()(student.layer(image), teacher.layer(image)).item()
    trainer = train(student, handlers, steps=40)
    assert DistillationLoss()(student.layer(image), teacher.layer(image)).item() < start / 4
    assert torch.equal(teacher.layer.weight, before)
    assert teacher.layer.weight.grad is None
    assert "distillation" in loss_terms(trainer.state.output)


def test_is_asked_once_for_any_number_of_losses_and_stays_off_the_output():
    teacher = CountingTeacher()
    seen = []
    losses = [
        LossInjector(name, lambda logits: seen.append(logits) or logits.sum() * 0, ["teacher_logits"])
        for name in ("first", "second")
    ]
    trainer = train(Plain(), [TeacherPredictions(teacher), *losses], steps=2)
    assert len(teacher.shown) == 2
    assert [entry.shape for entry in seen] == [(4, CLASSES, 32, 32)] * 4
    assert not any(entry.requires_grad for entry in seen)
    assert "teacher_logits" not in trainer.state.output


@pytest.mark.parametrize("masked", [1, 3])
def test_answers_for_the_decoded_images_only(masked):
    from monai.networks.nets import BasicUNet

    unet = BasicUNet(spatial_dims=2, in_channels=3, out_channels=CLASSES, features=(4, 4, 4, 4, 4, 4))
    teacher = CountingTeacher()
    sizes = []

    class Sizes:
        def attach(self, engine):
            engine.add_event_handler(
                Events.ITERATION_COMPLETED,
                lambda e: sizes.append((len(e.state.output["pred"]), len(e.state.teacher_logits))),
            )

    train(MultiTaskSegmenter(unet, CLASSES, embedding_dim=4), [TeacherPredictions(teacher), Sizes()], masked, steps=1)
    assert sizes == [(masked, masked)]
    assert torch.equal(teacher.shown[0], batches(1, masked)[0]["image"][:masked])
