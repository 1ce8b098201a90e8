import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from tiny_data import picture

from lap_monai.data.duplicates import find_duplicates, sign_frame

BIG = (120, 160)


def frame(seed, size=BIG):
    return Image.fromarray(picture(seed, size))


def through_jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


COPIES = {
    "JPEG": through_jpeg,
    "half size": lambda image: image.resize((80, 60), Image.Resampling.BILINEAR),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "noise": lambda image: Image.fromarray(
        np.clip(np.asarray(image) + np.random.default_rng(0).normal(0, 4, (*BIG, 3)), 0, 255).astype(np.uint8)
    ),
}


def pairs(images, videos):
    return [(p.first, p.second, p.exact) for p in find_duplicates([sign_frame(i) for i in images], videos)]


def test_equal_pixels_are_exact_duplicates_whatever_the_video():
    images = [frame(0), frame(1), frame(0), frame(0)]
    assert pairs(images, ["a", "a", "a", "b"]) == [(0, 2, True), (0, 3, True), (2, 3, True)]


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_changed_copies_are_near_duplicates_across_videos_only(copy):
    for seed in range(8):
        images = [frame(seed), frame(100 + seed), copy(frame(seed))]
        assert pairs(images, ["a", "b", "c"]) == [(0, 2, False)]
        assert pairs(images, ["a", "b", "a"]) == []


def test_different_pictures_are_none():
    assert pairs([frame(seed) for seed in range(60)], [f"v{i}" for i in range(60)]) == []


def test_same_bytes_in_another_shape_are_another_picture():
    pixels = np.asarray(frame(0))
    assert sign_frame(frame(0)).digest != sign_frame(Image.fromarray(pixels.reshape(160, 120, 3))).digest


def test_uniform_frames_have_no_signature_and_positions_count_them():
    black = Image.new("RGB", BIG)
    assert sign_frame(black) is None
    assert pairs([black, frame(0), black, frame(0)], ["a", "b", "c", "d"]) == [(1, 3, True)]
    assert pairs([black, black], ["a", "b"]) == []
    assert pairs([], []) == []
