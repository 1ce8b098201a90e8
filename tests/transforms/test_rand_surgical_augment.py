"""The paper's augmentation: frame and label alike, parameters replayable, labels stay labels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image
from scipy import ndimage

from lap_monai.checks import UserError
from lap_monai.transforms import RandSurgicalAugmentd, SurgicalAugmentation

FRAME = (60, 107)
PLAIN = {"scale": 0.0, "flip": 0.0, "blur_prob": 0.0}


def noise(size: tuple[int, int] = FRAME, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, *size), dtype=np.uint8))


def blocks(size: tuple[int, int] = FRAME, classes: int = 5) -> torch.Tensor:
    small = np.random.default_rng(1).integers(0, classes, (-(-size[0] // 12), -(-size[1] // 12)), dtype=np.uint8)
    return torch.from_numpy(small.repeat(12, axis=0).repeat(12, axis=1)[None, : size[0], : size[1]].copy())


def sample(size: tuple[int, int] = FRAME) -> dict[str, torch.Tensor]:
    return {"image": noise(size), "label": blocks(size)}


# --- against plain constructions ---


def test_with_everything_off_it_is_a_plain_crop():
    data = sample()
    augment = RandSurgicalAugmentd(crop=(32, 40), **PLAIN).set_random_state(seed=3)
    top, left = augment.draw(*FRAME).corner
    result = augment.set_random_state(seed=3)(data)
    part = np.s_[:, top : top + 32, left : left + 40]
    torch.testing.assert_close(result["image"], data["image"][part] / 255)
    assert torch.equal(result["label"], data["label"][part])


@pytest.mark.parametrize("zoomed", [(54, 96), (66, 118), (60, 118), (45, 107)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [(32, 40), (64, 50), (51, 128), (80, 130)])
def test_one_resampling_equals_zoom_then_crop_then_pad_then_flip(zoomed, flip, crop):
    corner = tuple(max(z - c, 0) // 2 for z, c in zip(zoomed, crop, strict=True))
    augmentation = SurgicalAugmentation(zoomed, corner, crop, flip)
    data = sample()

    def by_steps(array: np.ndarray, filter_: Image.Resampling, **padding) -> np.ndarray:
        array = np.asarray(Image.fromarray(array).resize(zoomed[::-1], filter_))
        array = array[corner[0] : corner[0] + crop[0], corner[1] : corner[1] + crop[1]]
        missing = [c - s for c, s in zip(crop, array.shape, strict=False)]
        widths = [(m // 2, m - m // 2) for m in missing] + [(0, 0)] * (array.ndim - 2)
        array = np.pad(array, widths, **padding)
        return array[:, ::-1] if flip else array

    image = by_steps(data["image"].permute(1, 2, 0).numpy().copy(), Image.Resampling.BILINEAR, mode="reflect")
    difference = augmentation.on_image(data["image"]).permute(1, 2, 0).numpy() * 255 - image
    assert np.abs(difference).max() <= 1.01  # PIL rounds the coefficients of a part and of the whole differently
    label = by_steps(data["label"][0].numpy(), Image.Resampling.NEAREST, mode="constant", constant_values=255)
    np.testing.assert_array_equal(augmentation.on_label(data["label"])[0].numpy(), label)


@pytest.mark.parametrize(("size", "sigma"), [(3, 0.8), (5, 1.1), (7, 1.4)])
def test_blur_is_a_gaussian_of_that_size(size, sigma):
    image = noise()
    blurred = SurgicalAugmentation(FRAME, (0, 0), FRAME, blur=(size, sigma)).on_image(image)
    expected = ndimage.gaussian_filter(image.numpy() / 255, sigma, axes=(1, 2), mode="mirror", radius=size // 2)
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


def test_floats_and_bytes_give_the_same_picture():
    augmentation = SurgicalAugmentation((66, 118), (3, 5), (64, 64), True, (5, 1.1))
    of_bytes, of_floats = augmentation.on_image(noise()), augmentation.on_image(noise() / 255)
    assert of_floats.dtype == of_bytes.dtype == torch.float32
    assert (of_bytes - of_floats).abs().max() < 1 / 255


def test_one_channel():
    grey = noise()[:1]
    augmentation = SurgicalAugmentation((66, 118), (3, 5), (32, 32))
    torch.testing.assert_close(augmentation.on_image(grey), augmentation.on_image(grey.expand(3, -1, -1))[:1])


# --- aligned ---


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("crop", [(40, 48), (72, 64)])
def test_image_and_label_stay_aligned(seed, crop):
    """The label drawn as a black and white image: where the picture is either, the label says which."""
    label = blocks(classes=2)
    image = (label * 255).expand(3, -1, -1)
    augment = RandSurgicalAugmentd(crop=crop, blur_prob=0.0).set_random_state(seed=seed)
    result = augment({"image": image, "label": label})
    picture, ids = result["image"][0], result["label"][0]
    pure = ((picture == 0) | (picture == 1)) & (ids != 255)
    assert pure.float().mean() > 0.5
    assert torch.equal(picture[pure], ids[pure].float())


@pytest.mark.parametrize("seed", range(10))
def test_labels_stay_in_the_label_space_and_the_border_is_ignored(seed):
    label = blocks(classes=4) * 2
    result = RandSurgicalAugmentd(crop=(96, 96)).set_random_state(seed=seed)({"image": noise(), "label": label})
    assert set(result["label"].unique().tolist()) <= {0, 2, 4, 6, 255}
    rows = (result["label"] != 255).any(dim=2)[0]
    zoomed = RandSurgicalAugmentd(crop=(96, 96)).set_random_state(seed=seed).draw(*FRAME).zoomed
    assert rows.sum() == min(zoomed[0], 96)
    assert not rows[0]
    assert not rows[-1]
    assert result["image"][:, ~rows].max() > 0  # the image is reflected there, not black


# --- drawn ---


def test_same_seed_same_sample():
    augment = RandSurgicalAugmentd(crop=(32, 32), jitter={"brightness": 0.2})
    a, b = (augment.set_random_state(seed=5)(sample()) for _ in range(2))
    c = augment.set_random_state(seed=6)(sample())
    assert torch.equal(a["image"], b["image"])
    assert torch.equal(a["label"], b["label"])
    assert not torch.equal(a["image"], c["image"])


def test_the_draw_replays_the_call():
    augment = RandSurgicalAugmentd(crop=(32, 32), jitter={"contrast": 0.3}).set_random_state(seed=8)
    parameters = augment.draw(*FRAME)
    result = augment.set_random_state(seed=8)(sample())
    assert torch.equal(parameters.on_image(sample()["image"]), result["image"])
    assert torch.equal(parameters.on_label(sample()["label"]), result["label"])


def test_draws_cover_their_ranges():
    augment = RandSurgicalAugmentd(crop=(48, 48), scale=0.1).set_random_state(seed=0)
    draws = [augment.draw(*FRAME) for _ in range(4000)]
    heights = {draw.zoomed[0] for draw in draws}
    assert (min(heights), max(heights)) == (54, 66)
    assert abs(np.mean([draw.flip for draw in draws]) - 0.5) < 0.03
    assert abs(np.mean([draw.blur is not None for draw in draws]) - 0.5) < 0.03
    kernels = Counter(draw.blur for draw in draws if draw.blur)
    assert set(kernels) == {(3, 0.8), (5, 1.1), (7, 1.4)}
    assert min(kernels.values()) > 0.3 * sum(kernels.values())


def test_crops_reach_every_place_and_no_further():
    augment = RandSurgicalAugmentd(crop=(56, 100), **PLAIN).set_random_state(seed=0)
    corners = Counter(augment.draw(*FRAME).corner for _ in range(4000))
    assert set(corners) == {(top, left) for top in range(5) for left in range(8)}
    assert min(corners.values()) > 50  # 100 expected of each


def test_a_crop_larger_than_the_frame_shows_all_of_it():
    data = sample((30, 31))
    result = RandSurgicalAugmentd(crop=(64, 65), **PLAIN)(data)
    torch.testing.assert_close(result["image"][:, 17:47, 17:48], data["image"] / 255)
    assert torch.equal(result["label"][:, 17:47, 17:48], data["label"])
    assert (result["label"] == 255).sum() == 64 * 65 - 30 * 31


# --- jitter ---


def test_no_width_no_change():
    jitter = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    plain = RandSurgicalAugmentd(crop=FRAME, **PLAIN)(sample())["image"]
    torch.testing.assert_close(RandSurgicalAugmentd(crop=FRAME, jitter=jitter, **PLAIN)(sample())["image"], plain)


@pytest.mark.parametrize("seed", range(5))
def test_what_each_jitter_leaves(seed):
    def jittered(name: str, image: torch.Tensor) -> torch.Tensor:
        augment = RandSurgicalAugmentd("image", "bilinear", FRAME, jitter={name: 0.3}, **PLAIN)
        return augment.set_random_state(seed=seed)({"image": image})["image"]

    image = noise() // 4 + 96  # far enough from black and white not to be clipped
    original = image / 255
    brighter, contrasted, saturated = (jittered(name, image) for name in ("brightness", "contrast", "saturation"))
    torch.testing.assert_close(brighter / original, (brighter / original).mean().expand_as(original))  # all ratios kept
    ratio = (contrasted - 0.5) / (original - 0.5)
    torch.testing.assert_close(ratio, ratio.median().expand_as(ratio), rtol=1e-3, atol=1e-3)
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(torch.einsum("c,chw->hw", luma, saturated), torch.einsum("c,chw->hw", luma, original))
    grey = torch.full((3, *FRAME), 100, dtype=torch.uint8)
    torch.testing.assert_close(jittered("saturation", grey), grey / 255)
    for changed in (brighter, contrasted, saturated):
        assert (changed - original).abs().max() > 1e-3


def test_jitter_stays_in_range():
    augment = RandSurgicalAugmentd(crop=(32, 32), jitter={"brightness": 0.9, "contrast": 0.9})
    for seed in range(20):
        image = augment.set_random_state(seed=seed)(sample())["image"]
        assert image.min() >= 0
        assert image.max() <= 1


# --- as a MONAI transform ---


def test_inputs_stay_as_they_were():
    data = sample()
    before = {key: value.clone() for key, value in data.items()}
    RandSurgicalAugmentd(crop=(32, 32))(data)
    assert all(torch.equal(data[key], before[key]) for key in before)


def test_results_are_plain_and_contiguous():
    data = {"image": MetaTensor(noise()), "label": MetaTensor(blocks()), "video": "video01"}
    result = RandSurgicalAugmentd(crop=(32, 32), flip=1.0)(data)
    assert type(result["image"]) is type(result["label"]) is torch.Tensor
    assert result["image"].is_contiguous()
    assert result["label"].is_contiguous()
    assert result["label"].dtype == torch.uint8
    assert result["video"] == "video01"


def test_keys_and_modes():
    data = {"a": noise(), "b": noise(seed=1), "m": blocks()}
    result = RandSurgicalAugmentd(["a", "b", "m"], ["bilinear", "bilinear", "nearest"], (32, 32))(data)
    assert [result[key].dtype for key in "abm"] == [torch.float32, torch.float32, torch.uint8]
    alone = RandSurgicalAugmentd(["x", "m"], crop=(32, 32), allow_missing_keys=True)(data)
    assert alone["m"].shape == (1, 32, 32)
    with pytest.raises(KeyError, match="x"):
        RandSurgicalAugmentd(["x", "m"], crop=(32, 32))(data)


def test_seeded_through_compose():
    chain = Compose([RandSurgicalAugmentd(crop=(32, 32))])
    a, b = (chain.set_random_state(seed=2)(sample())["image"] for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": (0, 4)}, "crop must be"),
        ({"scale": 1.0}, "scale=1.0"),
        ({"scale": -0.1}, "scale=-0.1"),
        ({"flip": 1.5}, "flip=1.5 is no probability"),
        ({"blur_prob": -1}, "blur_prob=-1 is no probability"),
        ({"blur": [(4, 1.0)]}, "odd kernel size"),
        ({"blur": [(3, 0.0)]}, "sigma above 0"),
        ({"blur": [(33, 3.0)], "crop": (32, 32)}, "no larger than the crop"),
        ({"blur": []}, "blur is empty"),
        ({"jitter": {"brigthness": 0.1}}, "Unknown jitter 'brigthness'.*brightness"),
        ({"jitter": {"contrast": 1.2}}, "contrast=1.2"),
        ({"mode": ["bilinear", "neerest"]}, "Unknown mode"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(UserError, match=words):
        RandSurgicalAugmentd(**options)
