"""Which modules of a network are its encoder."""

from __future__ import annotations

import torch
from torch import nn

from lap_monai.networks.encoder_decoder import blank_image, encoder_decoder


def encoder_modules(network: nn.Module, spatial_size: int = 64) -> dict[str, nn.Module]:
    """Return the modules that run when `network` encodes an image, by their names in it, found by encoding a black one.

    Containers are left out where only a part of them runs. So their parameters and buffers are the encoder's state.

    Args:
        network: a network that `encoder_decoder` can split.
        spatial_size: edge of the black image in pixels; a multiple of the network's total stride.
    """
    run: set[nn.Module] = set()
    hooks = [module.register_forward_pre_hook(lambda module, _: run.add(module)) for module in network.modules()]
    was_training = network.training
    network.eval()  # so that batch statistics stay as they are
    try:
        with torch.no_grad():
            encoder_decoder(network).encode(blank_image(network, spatial_size))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return {name: module for name, module in network.named_modules() if module in run and module is not network}


def encoder_state_names(network: nn.Module) -> list[str]:
    """Return the names, in the state of `network`, of the encoder's parameters and buffers."""
    prefixes = tuple(f"{name}." for name in encoder_modules(network))
    return [name for name in network.state_dict() if name.startswith(prefixes)]
