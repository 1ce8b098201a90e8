"""BYOL's target network."""

from __future__ import annotations

import copy

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.networks.nets import BasicUNet

from lap_monai.handlers import EmaTarget, LossInjector, PrepareMixedBatch, UnpackOutputs
from lap_monai.losses import ByolLoss
from lap_monai.networks import MultiTaskSegmenter


def make_network() -> MultiTaskSegmenter:
    torch.manual_seed(0)
    unet = BasicUNet(spatial_dims=2, in_channels=3, out_channels=2, features=(4, 4, 4, 4, 4, 4))
    return MultiTaskSegmenter(unet, num_classes=2, embedding_dim=4, predictor_dim=8)


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"image": (4, 3, 32, 32), "view": (4, 3, 32, 32), "label": (4, 1, 32, 32)}
    return [
        {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
        | {"has_mask": torch.zeros(4, dtype=torch.bool)}
        for _ in range(count)
    ]


def train(network: MultiTaskSegmenter, target: EmaTarget, steps: int = 1, after=()) -> SupervisedTrainer:
    injector = LossInjector("byol", ByolLoss(), ["predictions", "view_predictions", "targets", "view_targets"])
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches(steps),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=lambda logits, _: logits.sum(),
        prepare_batch=PrepareMixedBatch(),
        train_handlers=[UnpackOutputs(), target, injector, *after],
        decollate=False,
    )
    trainer.run()
    return trainer


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_it_begins_as_a_copy_and_follows_by_equation_1():
    network = make_network()
    target = EmaTarget(network, momentum=0.9)
    start = state(network)
    train(network, target)
    now, average = state(network), target.average.module.state_dict()
    assert any(not torch.equal(now[name], start[name]) for name in now)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(average[name], 0.9 * start[name] + 0.1 * parameter.detach())


def test_its_embeddings_are_those_of_the_average_for_both_views():
    network = make_network()
    target = EmaTarget(network, momentum=1.0)
    frozen = copy.deepcopy(network)
    trainer = train(network, target, steps=3)
    batch = batches(3)[-1]
    expected = frozen.train()(batch["image"], decode=0, view=batch["view"])
    for ours, theirs in (
        (trainer.state.targets, expected.embeddings),
        (trainer.state.view_targets, expected.view_embeddings),
    ):
        for our, their in zip(ours, theirs, strict=True):
            torch.testing.assert_close(our, their)
            assert not our.requires_grad


def test_no_optimizer_and_no_gradient_reaches_it():
    target = EmaTarget(make_network())
    assert not any(parameter.requires_grad for parameter in target.average.parameters())


def test_its_state_makes_an_equal_one():
    network = make_network()
    target = EmaTarget(network, momentum=0.5)
    train(network, target, steps=2)
    other = EmaTarget(make_network(), momentum=0.5)
    other.load_state_dict(target.state_dict())
    target._follow(None)
    other.network = network
    other._follow(None)
    for name, value in target.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_the_loss_falls():
    network = make_network()
    losses = []
    target = EmaTarget(network)

    class Note:
        def attach(self, engine):
            engine.add_event_handler(
                Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss_byol"]))
            )

    train(network, target, steps=30, after=[Note()])
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_refuses_a_momentum_that_is_no_share():
    with pytest.raises(ValueError, match="momentum from 0 to 1"):
        EmaTarget(make_network(), 1.1)
