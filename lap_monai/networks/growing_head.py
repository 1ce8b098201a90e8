"""Classifiers that grow with the classes of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lap_monai.checks import require_choice
from lap_monai.networks.encoder_decoder import blank_image
from lap_monai.task_stream import TaskStep

#: How the rows of new classes begin.
INITS = ("background", "fresh")


def classifier_axes(network: nn.Module, spatial_size: int = 64) -> dict[str, int]:
    """Return the parameters that belong to one output channel each, and along which axis; found by asking gradients.

    A parameter is part of the classifier if the logits of channel k depend on its slice k and on nothing else of it.
    That finds the last convolution of a U-Net, a transposed one as well as two whose outputs are added, and needs no
    rule per network.

    Args:
        network: network from images `(B, C, H, W)` to logits `(B, K, H, W)`, K of 2 or more.
        spatial_size: edge of the random image in pixels; a multiple of the network's total stride.

    Raises:
        TypeError: if no parameter belongs to one channel each.
    """
    was_training = network.training
    network.eval()  # so that batch statistics stay as they are
    try:
        gradients, channels = _channel_gradients(network, spatial_size)
    finally:
        network.train(was_training)
    axes = {
        name: axis
        for name, of_channels in gradients.items()
        for axis in range(of_channels[0].ndim)
        if of_channels[0].shape[axis] == channels and _one_slice_each(of_channels, axis)
    }
    if not axes:
        raise TypeError(f"classifier_axes: {type(network).__name__} has no layer with one slice a class at its end.")
    return axes


def _channel_gradients(network: nn.Module, spatial_size: int) -> tuple[dict[str, list[Tensor]], int]:
    """Return the gradients of the first two and the last channel with respect to each parameter."""
    parameters = dict(network.named_parameters())
    frozen = [parameter for parameter in parameters.values() if not parameter.requires_grad]
    blank = blank_image(network, spatial_size)
    noise = torch.rand(blank.shape, generator=torch.Generator().manual_seed(0)).to(blank)
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            sums = network(noise).sum(dim=(0, 2, 3))
            probes = [
                torch.autograd.grad(sums[k], list(parameters.values()), retain_graph=True, allow_unused=True)
                for k in dict.fromkeys((0, 1, len(sums) - 1))
            ]
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    used = {name: grads for name, *grads in zip(parameters, *probes, strict=True) if grads[0] is not None}
    return used, len(sums)


def _one_slice_each(gradients: Sequence[Tensor], axis: int) -> bool:
    """Whether the gradients of channels 0, 1 and the last are each confined to that slice along `axis`."""
    size = gradients[0].shape[axis]
    for gradient, channel in zip(gradients, dict.fromkeys((0, 1, size - 1)), strict=True):
        others = [k for k in range(size) if k != channel]
        if gradient.index_select(axis, torch.tensor(others, device=gradient.device)).any() or not gradient.any():
            return False
    return True


def grow_classifier(
    network: nn.Module, previous: Mapping[str, Tensor], step: TaskStep, init: str = "background"
) -> None:
    """Give `network`, which has the channels of `step`, the weights of the network of the step before.

    With `init="background"` the new classes begin as copies of the background, and all of them get its bias less
    `ln(1 + new)`: together they are exactly what the background was, every old class keeps its probability (Cermelli et
    al. 2020, eq. 9 and 10). With `"fresh"` their rows stay as the network was initialised.

    Args:
        network: as the step needs it, `step.num_channels` outputs; changed in place.
        previous: state of a network that has the channels `(0, *step.old_channels)`, otherwise the same.
        step: the step that begins.
        init: `"background"` or `"fresh"`.

    Raises:
        UserError: for an unknown init.
        ValueError: if the previous network is another one, or had other channels.
    """
    require_choice(init, INITS, "init of grow_classifier")
    axes = classifier_axes(network)
    state = network.state_dict()
    grown = {name: _grown(name, state, previous, axes.get(name), step) for name in state}
    if init == "background" and step.new:
        shift = float(torch.log(torch.tensor(1.0 + len(step.new))))
        biased = False
        for name, axis in axes.items():
            rows = grown[name].movedim(axis, 0)
            rows[list(step.new_channels)] = rows[0].clone()
            if rows.ndim == 1 and not biased:  # of two biases that are added, one
                rows[[0, *step.new_channels]] -= shift
                biased = True
    network.load_state_dict(grown)


def _grown(
    name: str, state: Mapping[str, Tensor], previous: Mapping[str, Tensor], axis: int | None, step: TaskStep
) -> Tensor:
    if name not in previous:
        raise ValueError(f"the previous network has no {name}; is it of another architecture?")
    before, value = previous[name], state[name].clone()
    expected = list(value.shape)
    if axis is not None:
        expected[axis] = 1 + len(step.old)
    if list(before.shape) != expected:
        raise ValueError(
            f"the previous network's {name} is {tuple(before.shape)}; a step with the old classes {list(step.old)} "
            f"does not follow it, or the architecture is another."
        )
    if axis is None:
        return before.to(value)
    value.movedim(axis, 0)[: 1 + len(step.old)] = before.to(value).movedim(axis, 0)
    return value


def mute_background(network: nn.Module) -> None:
    """Set the background's weights to 0, for a network with one sigmoid a class.

    Its logit is then 0, hence its sigmoid 0.5: the likeliest channel is the background where no class reaches 0.5. As
    no sigmoid loss here looks at it, it stays so.
    """
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, axis in classifier_axes(network).items():
            parameters[name].movedim(axis, 0)[0] = 0
