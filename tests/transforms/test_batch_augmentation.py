"""Augmenting a batch at once is augmenting its images one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lap_monai.transforms import RandSurgicalAugmentd, SurgicalAugmentation, augment_images, augment_labels

FRAME = (60, 107)
JITTER = {"brightness": 0.3, "contrast": 0.2, "saturation": 0.2}
#: A grey level: Pillow rounds bytes after each of its two passes, half a level each; a jitter stretches it.
LEVEL = 1.02 / 255


def batch(count: int, size: tuple[int, int] = FRAME) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise as bytes, in memory as a cache holds it (channels last), and labels of small blocks."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)).permute(0, 3, 1, 2)
    small = rng.integers(0, 5, (count, 1, -(-size[0] // 5), -(-size[1] // 5)), dtype=np.uint8)
    labels = small.repeat(5, axis=2).repeat(5, axis=3)[:, :, : size[0], : size[1]]
    return images, torch.from_numpy(labels.copy())


def draw(count: int, crop: tuple[int, int], **ranges) -> list[SurgicalAugmentation]:
    augment = RandSurgicalAugmentd(crop=crop, **ranges).set_random_state(seed=5)
    return [augment.draw(*FRAME) for _ in range(count)]


# Crops inside the frame, beyond it in one and both axes, and so wide that the border is reflected twice.
CROPS = [(32, 40), (64, 50), (51, 128), (80, 130), (60, 107), (60, 360)]


@pytest.mark.parametrize("crop", CROPS)
def test_images_equal_those_made_one_by_one(crop):
    images, _ = batch(12)
    drawn = draw(12, crop)
    assert {a.flip for a in drawn} == {True, False}
    assert len({a.blur for a in drawn}) > 2
    for given, tolerance in ((images, LEVEL), (images / 255, 1e-4)):
        expected = torch.stack([a.on_image(image) for a, image in zip(drawn, given, strict=True)])
        result = augment_images(given, drawn)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("blur_prob", [0.0, 0.5])
def test_recoloured_images_equal_those_made_one_by_one(blur_prob):
    images, _ = batch(12)
    drawn = draw(12, (64, 50), jitter=JITTER, blur_prob=blur_prob)
    expected = torch.stack([a.on_image(image) for a, image in zip(drawn, images, strict=True)])
    torch.testing.assert_close(augment_images(images, drawn), expected, rtol=0, atol=1.6 * LEVEL)
    assert expected.max() == 1  # some pixels are clamped, before they are blurred


@pytest.mark.parametrize("crop", CROPS)
def test_labels_equal_those_made_one_by_one_exactly(crop):
    _, labels = batch(12)
    drawn = draw(12, crop, scale=0.3)
    expected = torch.stack([a.on_label(label) for a, label in zip(drawn, labels, strict=True)])
    assert torch.equal(augment_labels(labels, drawn), expected)


def test_an_image_has_the_same_augmentation_whatever_its_company():
    images, _ = batch(4)
    drawn = draw(4, (64, 50))
    alone = torch.cat([augment_images(images[i : i + 1], drawn[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(augment_images(images, drawn), alone, rtol=0, atol=1e-5)
