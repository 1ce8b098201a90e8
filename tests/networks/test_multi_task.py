"""The training network: equal to its backbone where it must be, and no more work than it must do."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet, FlexibleUNet, SegResNet, UNet
from torch import nn
from torch.nn import functional as F

from lap_monai.checks import UserError
from lap_monai.networks import MultiScaleProjectionHead, MultiTaskSegmenter, encoder_channels, encoder_decoder

FEATURES = (4, 8, 8, 16, 16, 4)


def basic_unet(**kwargs) -> BasicUNet:
    torch.manual_seed(0)
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=5, features=FEATURES, **kwargs)


BACKBONES = {
    "BasicUNet": basic_unet,
    "BasicUNet with batch norm": lambda: basic_unet(norm="batch"),
    "SegResNet": lambda: SegResNet(spatial_dims=2, in_channels=3, out_channels=5, init_filters=8),
    "FlexibleUNet": lambda: FlexibleUNet(in_channels=3, out_channels=5, backbone="efficientnet-b0", spatial_dims=2),
}


@pytest.mark.parametrize("build", BACKBONES.values(), ids=BACKBONES)
def test_decode_of_encode_is_the_network(build):
    network = build().eval()
    image = torch.rand(2, 3, 64, 96)
    encode, decode = encoder_decoder(network)
    with torch.no_grad():
        assert torch.equal(decode(encode(image)), network(image))


@pytest.mark.parametrize("build", BACKBONES.values(), ids=BACKBONES)
def test_training_on_all_images_gives_the_logits_of_the_backbone(build):
    model = MultiTaskSegmenter(build(), num_classes=5).train()
    image = torch.rand(3, 3, 64, 64)
    for module in model.modules():  # dropout would differ between two calls
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    state = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    logits = model(image).logits
    model.backbone.load_state_dict(state)  # batch norm moved its running mean
    if not isinstance(model.backbone, FlexibleUNet):  # EfficientNet drops whole blocks at random in training
        torch.testing.assert_close(logits, model.backbone(image))
    assert logits.shape == (3, 5, 64, 64)


def test_only_the_first_images_are_decoded_and_all_are_embedded():
    model = MultiTaskSegmenter(basic_unet(), num_classes=5, scales=2, embedding_dim=6).train()
    image = torch.rand(4, 3, 32, 32)
    some, every = model(image, decode=1), model(image)
    assert some.logits.shape == (1, 5, 32, 32)
    assert [z.shape for z in some.embeddings] == [(4, 6), (4, 6)]
    torch.testing.assert_close(some.logits, every.logits[:1])
    torch.testing.assert_close(some.class_logits, every.class_logits)


def test_batch_norm_sees_the_whole_batch_whatever_is_decoded():
    image = torch.rand(4, 3, 32, 32)
    outputs = []
    for decode in (2, 4):
        model = MultiTaskSegmenter(basic_unet(norm="batch"), num_classes=5).train()
        torch.manual_seed(1)
        for parameter in model.heads.parameters():
            nn.init.normal_(parameter)
        outputs.append(model(image, decode=decode).class_logits)
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize("decode", [0, 4])
def test_one_group_may_be_empty(decode):
    output = MultiTaskSegmenter(basic_unet(), num_classes=5).train()(torch.rand(4, 3, 32, 32), decode=decode)
    assert output.logits.shape == (decode, 5, 32, 32)
    assert output.class_logits.shape == (4, 5)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("decode", [0, 1, 3])
def test_second_views_are_embedded_and_nothing_else(norm, decode):
    model = MultiTaskSegmenter(basic_unet(norm=norm), num_classes=5, embedding_dim=6).train()
    image, view = torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32)
    output = model(image, decode=decode, view=view)
    together = model(torch.cat([image, view]), decode=decode)
    torch.testing.assert_close(output.logits, together.logits)
    torch.testing.assert_close(output.class_logits, together.class_logits[:3])
    for first, second, both in zip(output.embeddings, output.view_embeddings, together.embeddings, strict=True):
        torch.testing.assert_close(torch.cat([first, second]), both)


def test_without_views_and_further_heads_there_are_none():
    output = MultiTaskSegmenter(basic_unet(), num_classes=5).train()(torch.rand(2, 3, 32, 32))
    assert output.view_embeddings == output.predictions == output.view_predictions == ()
    assert output.reconstruction is output.log_variances is None


def test_predictions_are_the_predictor_on_the_embeddings_of_both_views():
    model = MultiTaskSegmenter(basic_unet(), num_classes=5, embedding_dim=6, predictor_dim=7).train()
    output = model(torch.rand(3, 3, 32, 32), decode=1, view=torch.rand(3, 3, 32, 32))
    every = [torch.cat(pair) for pair in zip(output.embeddings, output.view_embeddings, strict=True)]
    expected = model.heads["predictor"](every)
    for first, second, both in zip(output.predictions, output.view_predictions, expected, strict=True):
        torch.testing.assert_close(torch.cat([first, second]), both)


@pytest.mark.parametrize("decode", [0, 1, 3])
def test_embeddings_are_standardized_over_the_whole_batch(decode):
    torch.manual_seed(0)
    model = MultiTaskSegmenter(basic_unet(), num_classes=5, embedding_dim=6, standardize=True).train()
    output = model(torch.rand(3, 3, 32, 32), decode=decode, view=torch.rand(3, 3, 32, 32))
    for first, second in zip(output.embeddings, output.view_embeddings, strict=True):
        both = torch.cat([first, second])
        torch.testing.assert_close(both.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
        torch.testing.assert_close(both.var(dim=0, correction=0), torch.ones(6), atol=0.05, rtol=0)


@pytest.mark.parametrize("decode", [0, 2])
def test_the_reconstruction_sees_the_deepest_scale_only(decode):
    model = MultiTaskSegmenter(basic_unet(), num_classes=5, reconstruct=True).train()
    image = torch.rand(3, 3, 32, 48)
    output = model(image, decode=decode, view=torch.rand(3, 3, 32, 48))
    assert output.reconstruction.shape == image.shape
    deepest = encoder_decoder(model.backbone).encode(image)[-1]
    torch.testing.assert_close(output.reconstruction, model.heads["reconstruction"](deepest))


def test_every_further_head_learns():
    model = MultiTaskSegmenter(basic_unet(), num_classes=5, predictor_dim=7, reconstruct=True, log_variances=2).train()
    output = model(torch.rand(3, 3, 32, 32), view=torch.rand(3, 3, 32, 32))
    parts = (*output.predictions, *output.view_predictions, output.reconstruction, output.log_variances - 1)
    sum(part.square().mean() for part in parts).backward()
    for name in ("predictor", "reconstruction", "log_variances"):
        assert all(p.grad is not None for p in model.heads[name].parameters()), name


def test_evaluation_and_tracing_give_plain_logits():
    model = MultiTaskSegmenter(basic_unet(), num_classes=5).eval()
    image = torch.rand(2, 3, 32, 48)
    expected = model.backbone(image)
    torch.testing.assert_close(model(image), expected)
    torch.testing.assert_close(torch.jit.trace(model, image)(image), expected)


@pytest.mark.parametrize(("pooling", "pool"), [("avg", F.adaptive_avg_pool2d), ("max", F.adaptive_max_pool2d)])
def test_projection_equals_the_papers_convolution_then_pooling(pooling, pool):
    torch.manual_seed(0)
    head = MultiScaleProjectionHead((7,), embedding_dim=5, pooling=pooling)
    feature = torch.rand(3, 7, 6, 4)
    nn.init.normal_(head.biases[0])
    convolved = F.conv2d(feature, head.projections[0].weight, head.biases[0])
    torch.testing.assert_close(head([feature])[0], pool(convolved, 1).flatten(1))


def test_max_pooling_tells_images_apart_where_the_average_cannot():
    # Behind an instance norm every image has the same average: the embeddings would be one point.
    norm = nn.InstanceNorm2d(6)
    torch.manual_seed(0)
    feature = norm(torch.rand(8, 6, 16, 16) ** torch.arange(1, 9)[:, None, None, None])
    spread = {}
    for pooling in ("avg", "max"):
        embedding = MultiScaleProjectionHead((6,), embedding_dim=5, pooling=pooling)([feature])[0]
        spread[pooling] = embedding.std(dim=0).mean()
    assert spread["avg"] < 1e-5
    assert spread["max"] > 0.1


def test_gradients_reach_every_part():
    model = MultiTaskSegmenter(basic_unet(), num_classes=5).train()
    output = model(torch.rand(3, 3, 32, 32), decode=1)
    (output.logits.square().mean() + output.class_logits.square().mean()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_asking_for_channels_leaves_the_network_as_it_was():
    network = basic_unet(norm="batch").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert encoder_channels(network) == FEATURES[:5]
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="expected 1 to 5 scales, got 6"):
        MultiTaskSegmenter(basic_unet(), num_classes=5, scales=6)
    nested = UNet(spatial_dims=2, in_channels=3, out_channels=2, channels=(4, 8), strides=(2,))
    with pytest.raises(TypeError, match="no rule splits a UNet"):
        MultiTaskSegmenter(nested, num_classes=2)
    with pytest.raises(UserError, match="Unknown pooling 'mean'"):
        MultiScaleProjectionHead((4,), pooling="mean")
