"""A second stage's encoder: loaded, and kept as it is if frozen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.networks.nets import BasicUNet
from torch import nn

from lap_monai.checks import UserError
from lap_monai.handlers import PretrainedEncoder, write_checkpoint
from lap_monai.networks import encoder_state_names


def make_network(seed: int, width: int = 4) -> BasicUNet:
    torch.manual_seed(seed)
    features = (width, 4, 4, 4, 4, 4)
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=2, features=features, norm="batch", dropout=0.5)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network of seed 0."""
    write_checkpoint(tmp_path / "model.pt", {"model": make_network(0)}, {"label_space": "endoscapes_7"})
    return tmp_path / "model.pt"


def train(network: nn.Module, *handlers: object, steps: int = 2) -> SupervisedTrainer:
    generator = torch.Generator().manual_seed(2)
    data = [
        {"image": torch.rand(2, 3, 32, 32, generator=generator), "label": torch.zeros(2, 1, 32, 32)}
        for _ in range(steps)
    ]
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=data,
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=0.01),
        loss_function=lambda logits, _: logits.square().mean(),
        train_handlers=list(handlers),
        decollate=False,
    )
    trainer.run()
    return trainer


def changed(network: nn.Module, other: nn.Module) -> set[str]:
    before = other.state_dict()
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_encoder_stays_to_the_last_statistic_and_the_decoder_learns(checkpoint):
    network = make_network(1)
    encoder = set(encoder_state_names(network))
    train(network, PretrainedEncoder(checkpoint, network))
    assert not changed(network, make_network(0)) & encoder
    decoder = {name for name, _ in network.named_parameters()} - encoder
    assert decoder <= changed(network, make_network(1))


def test_a_frozen_encoder_drops_nothing_out(checkpoint):
    network = make_network(1)
    train(network, PretrainedEncoder(checkpoint, network))
    image = torch.rand(2, 3, 32, 32)
    network.train()
    first, second = network.conv_0(image), network.conv_0(image)
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_an_encoder_that_is_not_frozen_is_trained_on(checkpoint):
    network = make_network(1)
    encoder = set(encoder_state_names(network)) & {name for name, _ in network.named_parameters()}
    train(network, PretrainedEncoder(checkpoint, network, freeze=False), steps=1)
    assert encoder <= changed(network, make_network(0))
    before = make_network(0).conv_0.conv_0.conv.weight
    assert (network.conv_0.conv_0.conv.weight - before).abs().max() < 0.02  # one step away from where it was loaded


def test_a_resumed_training_keeps_its_encoder(checkpoint):
    network = make_network(1)

    class Resumed:
        def attach(self, engine):
            engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "iteration", 1))

    train(network, Resumed(), PretrainedEncoder(checkpoint, network))
    encoder = set(encoder_state_names(network))
    assert not changed(network, make_network(1)) & encoder


def test_says_which_checkpoint_does_not_fit(checkpoint, tmp_path):
    network = make_network(1)
    with pytest.raises(UserError, match="Set encoder_checkpoint"):
        PretrainedEncoder(None, network)
    with pytest.raises(UserError, match="No checkpoint at"):
        train(network, PretrainedEncoder(tmp_path / "none.pt", network))
    with pytest.raises(UserError, match="trained with label_space 'endoscapes_7'"):
        train(network, PretrainedEncoder(checkpoint, network, identity={"label_space": "cholecseg8k_13"}))
    wider = make_network(1, width=8)
    with pytest.raises(UserError, match=r"model\.pt.* does not fit the configured model"):
        train(wider, PretrainedEncoder(checkpoint, wider))
    write_checkpoint(checkpoint, {"model": nn.Linear(2, 2)})
    with pytest.raises(UserError, match="was another network pre-trained"):
        train(network, PretrainedEncoder(checkpoint, network))
