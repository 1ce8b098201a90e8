"""Less memory, same gradients: activations that are computed again, by blocks or by portions of the batch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import BasicUNet, SegResNet
from torch import nn

from lap_monai.checks import UserError
from lap_monai.losses import ClassContrastiveLoss, MultiLabelLoss, SegmentationLoss
from lap_monai.networks import MultiTaskSegmenter, checkpoint_blocks

CLASSES = 5


def basic_unet(**options) -> BasicUNet:
    return BasicUNet(2, 3, CLASSES, (4, 8, 8, 16, 16, 4), **options)


def seg_res_net() -> SegResNet:
    return SegResNet(2, init_filters=8, in_channels=3, out_channels=CLASSES)


def segmenter(build: Callable[[], nn.Module], checkpointed: bool = False, **options) -> MultiTaskSegmenter:
    torch.manual_seed(0)
    backbone = build()
    return MultiTaskSegmenter(checkpoint_blocks(backbone) if checkpointed else backbone, CLASSES, **options).train()


def step(network: MultiTaskSegmenter) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Loss, gradients, and bytes kept for the backward pass of a mixed batch."""
    torch.manual_seed(1)
    images, labels = torch.rand(7, 3, 32, 48), torch.randint(CLASSES, (3, 1, 32, 48))
    classes = torch.randint(2, (3, CLASSES)).float().repeat(3, 1)[:7]
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(images, decode=3)
    loss = SegmentationLoss()(output.logits, labels) + ClassContrastiveLoss()(output.embeddings, classes)
    loss = loss + MultiLabelLoss()(output.class_logits, classes)
    loss.backward()
    gradients = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    return loss.detach(), gradients, sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("build", [basic_unet, seg_res_net])
@pytest.mark.parametrize("portion", [1, 2, 100])
def test_portions_give_the_gradients_of_the_whole_batch_in_less_memory(build, portion):
    loss, gradients, size = step(segmenter(build))
    same_loss, same_gradients, less = step(segmenter(build, portion=portion))
    torch.testing.assert_close(same_loss, loss)
    torch.testing.assert_close(same_gradients, gradients, rtol=1e-3, atol=1e-4 * gradients.abs().max().item())
    assert less < size / 5


@pytest.mark.parametrize("build", [basic_unet, seg_res_net])
def test_checkpointed_blocks_give_the_same_gradients_to_the_last_bit_in_less_memory(build):
    loss, gradients, size = step(segmenter(build))
    same_loss, same_gradients, less = step(segmenter(build, checkpointed=True))
    assert torch.equal(same_loss, loss)
    assert torch.equal(same_gradients, gradients)
    assert less < 0.7 * size


def test_both_together_give_the_gradients_too():
    expected = step(segmenter(basic_unet))[1]
    given = step(segmenter(basic_unet, checkpointed=True, portion=2))[1]
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_a_checkpointed_network_keeps_its_names_and_its_copies_their_own_weights():
    plain, network = basic_unet(), checkpoint_blocks(basic_unet())
    assert list(network.state_dict()) == list(plain.state_dict())
    duplicate = copy.deepcopy(network).train()
    with torch.no_grad():
        for parameter in duplicate.parameters():
            parameter.zero_()
    image = torch.rand(1, 3, 32, 32)
    assert not duplicate(image).any()
    assert network.train()(image).any()


def test_dropout_is_the_same_the_second_time():
    def build() -> BasicUNet:
        return basic_unet(dropout=0.5)

    expected = step(segmenter(build))[1]
    assert torch.equal(step(segmenter(build, checkpointed=True))[1], expected)


def test_batch_norm_is_refused():
    with pytest.raises(UserError, match="BasicUNet has batch norm"):
        checkpoint_blocks(basic_unet(norm="batch"))
    with pytest.raises(ValueError, match="without batch norm"):
        segmenter(lambda: basic_unet(norm="batch"), portion=2)
