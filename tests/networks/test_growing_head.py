"""Classifiers that grow: what a step's network says before it has learned anything."""

from __future__ import annotations

import math

import pytest
import torch
from monai.networks.nets import AttentionUnet, BasicUNet, FlexibleUNet, SegResNet, UNet

from lap_monai.checks import UserError
from lap_monai.networks import (
    IncrementalSegmenter,
    MergedTeacher,
    classifier_axes,
    fuse_states,
    fusion_share,
    grow_classifier,
    mute_background,
)
from lap_monai.task_stream import TaskStep

CLASSES = ("background", "colon", "liver", "spleen", "ureter")
STEP = TaskStep(CLASSES, old=("liver", "ureter"), new=("spleen", "colon"))
SAME = TaskStep(CLASSES, old=("liver", "ureter"), new=())

NETWORKS = {
    "BasicUNet": lambda k: BasicUNet(2, 3, k, features=(4, 4, 8, 8, 8, 4)),
    "UNet": lambda k: UNet(2, 3, k, (4, 8, 8), (2, 2)),  # ends in a transposed convolution
    "SegResNet": lambda k: SegResNet(2, 8, 3, k, blocks_down=(1, 1), blocks_up=(1,)),
    "AttentionUnet": lambda k: AttentionUnet(2, 3, k, (4, 8), (2,)),
    "FlexibleUNet": lambda k: FlexibleUNet(3, k, "resnet18", pretrained=False),
}


@pytest.fixture(params=NETWORKS)
def make(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]


@pytest.fixture
def image():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def probabilities(network, image):
    return network.eval()(image).softmax(1)


def test_a_grown_network_keeps_every_old_class_and_divides_the_background(make, image):
    """Cermelli et al. 2020, section 3.3."""
    previous, network = make(3), make(5)
    grow_classifier(network, previous.state_dict(), STEP)
    before, after = probabilities(previous, image), probabilities(network, image)
    torch.testing.assert_close(after[:, 1:3], before[:, 1:])
    for channel in (0, 3, 4):
        torch.testing.assert_close(after[:, channel], before[:, 0] / 3)


def test_fresh_rows_stay_as_they_were_initialised_and_old_logits_as_they_were(make, image):
    previous, network = make(3), make(5)
    axes = classifier_axes(network)
    fresh = {n: p.detach().movedim(axes[n], 0)[3:].clone() for n, p in network.named_parameters() if n in axes}
    grow_classifier(network, previous.state_dict(), STEP, init="fresh")
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image)[:, :3], previous.eval()(image))
    for name, rows in fresh.items():
        assert torch.equal(network.get_parameter(name).movedim(axes[name], 0)[3:], rows)


@pytest.mark.parametrize("init", ["background", "fresh"])
def test_without_new_classes_nothing_changes(make, image, init):
    previous, network = make(3), make(3)
    grow_classifier(network, previous.state_dict(), SAME, init)
    with torch.no_grad():
        assert torch.equal(network.eval()(image), previous.eval()(image))


def test_asking_leaves_a_network_as_it_is(make):
    network = make(4).train()
    next(network.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    axes = classifier_axes(network)
    assert network.training
    assert not next(network.parameters()).requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert {network.get_parameter(name).shape[axis] for name, axis in axes.items()} == {4}


def test_a_network_of_another_stream_or_architecture_is_refused():
    network = NETWORKS["BasicUNet"](5)
    with pytest.raises(ValueError, match=r"old classes \['liver', 'ureter'\] does not follow it"):
        grow_classifier(network, NETWORKS["BasicUNet"](4).state_dict(), STEP)
    with pytest.raises(ValueError, match="another architecture"):
        grow_classifier(network, NETWORKS["UNet"](3).state_dict(), STEP)
    with pytest.raises(UserError, match="Did you mean 'background'"):
        grow_classifier(network, {}, STEP, init="backgruond")


def test_a_network_without_a_classifier_is_refused():
    mixing = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.GroupNorm(1, 4, affine=False))
    with pytest.raises(TypeError, match="one slice a class"):
        classifier_axes(mixing)


def test_a_muted_background_is_what_no_class_claims(make, image):
    network = make(3)
    mute_background(network)
    with torch.no_grad():
        logits = network.eval()(image)
    assert (logits[:, 0] == 0).all()
    assert torch.equal(logits.argmax(1) == 0, (logits[:, 1:].sigmoid() <= 0.5).all(1))


# --- fusion --------------------------------------------------------------------------------------------------------


def test_fusion_is_linear_and_leaves_new_rows_alone(make):
    previous, current = make(3), make(5)
    axes = classifier_axes(current)
    fused = fuse_states(previous.state_dict(), current.state_dict(), axes, 0.25)
    for name, value in current.state_dict().items():
        before, after = previous.state_dict()[name], fused[name]
        if name in axes:
            value, after = (x.movedim(axes[name], 0) for x in (value, after))
            assert torch.equal(after[3:], value[3:])
            value, after, before = value[:3], after[:3], before.movedim(axes[name], 0)
        if value.is_floating_point():
            torch.testing.assert_close(after, 0.25 * value + 0.75 * before)
    make(5).load_state_dict(fused)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_fusion_with_a_share_of_all_is_one_of_the_two(share):
    previous, current = NETWORKS["BasicUNet"](3), NETWORKS["BasicUNet"](3)
    fused = fuse_states(previous.state_dict(), current.state_dict(), classifier_axes(current), share)
    expected = (current if share else previous).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in fused.items())


def test_the_share_of_the_new_network():
    assert fusion_share(STEP) == pytest.approx(math.sqrt(2 / 4))
    assert fusion_share(SAME) == 0
    assert fusion_share(TaskStep(CLASSES, old=(), new=("liver",))) == 1


def test_networks_of_two_streams_are_not_fused():
    one, other = NETWORKS["BasicUNet"](3).state_dict(), NETWORKS["UNet"](3).state_dict()
    with pytest.raises(ValueError, match="different architectures"):
        fuse_states(one, other, {}, 0.5)


# --- all teachers --------------------------------------------------------------------------------------------------


class Says(torch.nn.Module):
    """The same logits for every image."""

    def __init__(self, *scores):
        super().__init__()
        self.scores = torch.tensor(scores).view(1, -1, 1, 1)

    def forward(self, image):
        return self.scores.expand(len(image), -1, *image.shape[2:])


def test_each_class_comes_from_the_network_that_first_knew_it():
    first, second = Says(0.0, 1.0), Says(0.5, -1.0, 2.0)
    image = torch.zeros(2, 3, 4, 4)
    merged = MergedTeacher([first, second], sigmoid=True)(image)
    assert merged[1, :, 0, 0].tolist() == [0.5, 1.0, 2.0]
    soft = MergedTeacher([first, second])(image)[0, :, 0, 0]
    p, q = torch.tensor([0.0, 1.0]).log_softmax(0), torch.tensor([0.5, -1.0, 2.0]).log_softmax(0)
    torch.testing.assert_close(soft, torch.stack([q[0], p[1], q[2]]))


def test_one_teacher_merged_is_that_teacher():
    scores = (0.5, -1.0, 2.0)
    merged = MergedTeacher([Says(*scores)])(torch.zeros(1, 3, 2, 2))
    torch.testing.assert_close(merged.softmax(1), Says(*scores)(torch.zeros(1, 3, 2, 2)).softmax(1))
    with pytest.raises(ValueError, match="at least one"):
        MergedTeacher([])


# --- the training network ------------------------------------------------------------------------------------------


def test_it_is_the_plain_network_in_evaluation_and_tells_more_in_training(make, image):
    backbone = make(3)
    network = IncrementalSegmenter(backbone, embedding_dim=6, stride=4).eval()
    with torch.no_grad():
        assert torch.equal(network(image), backbone(image))
    output = network.train()(image)
    assert output.logits.shape == (2, 3, 32, 32)
    assert output.embeddings.shape == (2, 6, 8, 8)
    assert output.features == ()
    assert {name.partition(".")[0] for name in network.state_dict()} == {"backbone", "heads"}


@pytest.mark.parametrize("name", ["BasicUNet", "SegResNet", "FlexibleUNet"])
def test_features_are_the_encoders(name, image):
    network = IncrementalSegmenter(NETWORKS[name](3), features=True).train()
    output = network(image)
    assert len(output.features) > 1
    assert output.embeddings is None
    sizes = [feature.shape[-1] for feature in output.features]
    assert sizes == sorted(sizes, reverse=True)


def test_an_embedding_sees_its_cell_of_what_the_classifier_reads(image):
    network = IncrementalSegmenter(NETWORKS["BasicUNet"](3), embedding_dim=6, stride=4).train()
    seen = []
    hook = network.backbone.final_conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    output = network(image)
    hook.remove()
    cell = seen[0][:, :, 4:8, 8:12].mean((2, 3))[:, :, None, None]
    torch.testing.assert_close(output.embeddings[:, :, 1:2, 2:3], network.heads["projection"](cell))
    output.embeddings.sum().backward()
    assert next(network.backbone.parameters()).grad.abs().sum() > 0
