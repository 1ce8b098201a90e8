"""Which part of a network is its encoder."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet, FlexibleUNet, SegResNet
from torch import nn

from lap_monai.networks import encoder_decoder, encoder_modules, encoder_shapes, encoder_state_names

BUILDS = {
    "BasicUNet": lambda: BasicUNet(2, 3, 5, features=(4, 8, 8, 16, 16, 4), norm="batch"),
    "SegResNet": lambda: SegResNet(spatial_dims=2, in_channels=3, out_channels=5, init_filters=8),
    "FlexibleUNet": lambda: FlexibleUNet(in_channels=3, out_channels=5, backbone="resnet18", spatial_dims=2),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_the_encoders_parameters_are_those_with_a_gradient_of_the_features(build):
    network = build()
    features = encoder_decoder(network).encode(torch.rand(2, 3, 64, 64))
    sum(feature.square().mean() for feature in features).backward()
    expected = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    names = encoder_state_names(network)
    assert set(names) & {name for name, _ in network.named_parameters()} == expected
    assert 0 < len(expected) < len(list(network.parameters()))


def test_batch_statistics_of_the_encoder_belong_to_it():
    names = encoder_state_names(BUILDS["BasicUNet"]())
    assert any(name.startswith("down_4.") and name.endswith("running_mean") for name in names)
    assert not any(name.startswith("upcat_") for name in names)


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_asking_changes_nothing(build):
    network = build().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modules = encoder_modules(network)
    assert network.training
    assert network not in modules.values()
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_shapes_are_channels_and_strides():
    assert encoder_shapes(BUILDS["BasicUNet"]()) == ((4, 1), (8, 2), (8, 4), (16, 8), (16, 16))
    assert [stride for _, stride in encoder_shapes(BUILDS["SegResNet"]())] == [1, 2, 4, 8]


def test_a_network_without_an_encoder_is_refused():
    with pytest.raises(TypeError, match="no rule splits a Sequential"):
        encoder_modules(nn.Sequential(nn.Conv2d(3, 4, 1)))
