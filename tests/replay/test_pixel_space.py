from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.feature import match_template
from skimage.transform import resize
from tiny_data import picture

from lap_monai.checks import UserError
from lap_monai.replay import PixelSpace
from lap_monai.replay.pixel_space import correlation

SIZE = (48, 80)


def pictures(count: int, first: int = 0) -> np.ndarray:
    return np.stack([picture(seed, SIZE) for seed in range(first, first + count)])


def test_correlation_is_the_best_of_template_matching() -> None:
    """scikit-image slides the same middles, shrunk by its own resize, over the same pictures."""
    rng = np.random.default_rng(0)
    queries = torch.from_numpy(rng.normal(128, 40, (4, 32, 50)).astype(np.float32))
    where = torch.from_numpy(rng.normal(128, 40, (4, 32, 50)).astype(np.float32))
    where[0] = queries[0]
    where[1, :, 2:] = queries[1, :, :-2]  # shifted by two pixels
    expected = []
    for query, place in zip(queries.numpy(), where.numpy(), strict=True):
        middle = query[2:30, 3:47]
        best = -1.0
        for scale in (1.0, 0.975, 0.95, 0.925, 0.9):
            size = (round(scale * 28), round(scale * 44))
            # torch's antialiased bilinear filter is a triangle as wide as the shrinking: scikit-image has no such one
            template = middle if scale == 1 else bilinear(middle, size)
            best = max(best, match_template(place, template).max())
        expected.append(best)
    np.testing.assert_allclose(correlation(queries, where), expected, atol=1e-4)
    assert expected[0] == pytest.approx(1, abs=1e-5)
    assert expected[1] == pytest.approx(1, abs=1e-5)


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return torch.nn.functional.interpolate(torch.from_numpy(image)[None, None], size, mode="bilinear", antialias=True)[
        0, 0
    ].numpy()


def test_a_frame_is_its_own_nearest_and_a_stranger_is_far() -> None:
    training = pictures(12)
    found = PixelSpace(training).nearest(training)
    assert found.index.tolist() == list(range(12))
    np.testing.assert_allclose(found.distance, 0, atol=1e-5)
    assert PixelSpace(training).nearest(pictures(20, first=100)).distance.min() > 0.05


@pytest.mark.parametrize("axes", [(), (1,), (0,), (0, 1)], ids=["as it is", "left-right", "upside down", "both"])
def test_orientation_and_light_do_not_matter(axes: tuple[int, ...]) -> None:
    training = pictures(12)
    copies = np.stack([np.flip(frame, axes) for frame in training])
    copies = (copies * 0.5 + 60).astype(np.uint8)
    found = PixelSpace(training).nearest(copies)
    assert found.index.tolist() == list(range(12))
    assert found.distance.max() < 1e-3  # the rounding to bytes


def test_small_crops_are_undone_and_large_ones_are_not() -> None:
    training = pictures(6)
    small, large = (np.stack([cropped(frame, side) for frame in training]) for side in (0.92, 0.5))
    space = PixelSpace(training)
    assert space.nearest(small).distance.max() < 0.03
    assert space.nearest(large).distance.min() > 0.1


def cropped(frame: np.ndarray, side: float) -> np.ndarray:
    height, width = (round(side * length) for length in frame.shape[:2])
    return (resize(frame[-height:, :width], frame.shape[:2]) * 255).round().astype(np.uint8)


def test_in_a_uniform_picture_nobody_is_recognised() -> None:
    black = np.zeros((2, *SIZE, 3), np.uint8)
    space = PixelSpace(np.concatenate([black, pictures(3)]))
    assert space.nearest(black).distance.tolist() == [1, 1]


def test_the_batch_does_not_matter() -> None:
    training, queries = pictures(5), pictures(130, first=3)
    space = PixelSpace(training)
    together = space.nearest(queries)
    for index in (0, 63, 64, 129):
        alone = space.nearest(queries[index : index + 1])
        assert alone.index[0] == together.index[index]
        assert alone.distance[0] == pytest.approx(together.distance[index], abs=1e-6)


def test_sizes_and_types_are_checked() -> None:
    space = PixelSpace(pictures(2))
    with pytest.raises(UserError, match=r"40x20, the training frames 80x48; .*frame_size"):
        space.nearest(np.zeros((1, 20, 40, 3), np.uint8))
    with pytest.raises(UserError, match="no training frames"):
        PixelSpace(np.zeros((0, *SIZE, 3), np.uint8))
    with pytest.raises(UserError, match="uint8"):
        PixelSpace(np.zeros((1, *SIZE, 3), np.float32))
