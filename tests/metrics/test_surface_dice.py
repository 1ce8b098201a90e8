from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice
from scipy.ndimage import binary_erosion, gaussian_filter

from lap_monai.metrics import surface_dice


def square(top: int, left: int, size: int = 8) -> torch.Tensor:
    mask = torch.zeros(1, 1, 24, 24, dtype=torch.int64)
    mask[..., top : top + size, left : left + size] = 1
    return mask


def loop_nsd(prediction: np.ndarray, label: np.ndarray, tolerance: float) -> float:
    """Outline = pixels of the mask that erosion removes; every distance by brute force."""
    outlines = [np.argwhere(mask & ~binary_erosion(mask)) for mask in (prediction, label)]
    distances = np.linalg.norm(outlines[0][:, None] - outlines[1][None], axis=-1)
    near = (distances.min(1) <= tolerance).sum() + (distances.min(0) <= tolerance).sum()
    return near / sum(distances.shape)


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5])
def test_equals_brute_force(shift: int, tolerance: float) -> None:
    prediction, label = square(6, 6), square(6, 6 + shift)
    expected = loop_nsd(prediction[0, 0].numpy() == 1, label[0, 0].numpy() == 1, tolerance)
    assert surface_dice(prediction, label, 3, tolerance)[0, 1].item() == pytest.approx(expected)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 3.0])
def test_equals_monai_on_ragged_masks_that_touch_the_border(tolerance: float) -> None:
    rng = np.random.default_rng(0)
    prediction, label = (gaussian_filter(rng.normal(size=(4, 3, 40, 56)), (0, 0, 3, 3)).argmax(1) for _ in range(2))
    ids = np.arange(3)[:, None, None]
    expected = compute_surface_dice(
        torch.tensor(prediction[:, None] == ids),
        torch.tensor(label[:, None] == ids),
        [tolerance] * 3,
        include_background=True,
    )
    found = surface_dice(torch.tensor(prediction), torch.tensor(label), 3, tolerance)
    torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=0)


def test_absent_is_nan_and_one_sided_is_zero() -> None:
    empty = torch.zeros_like(square(0, 0))
    scores = surface_dice(torch.cat([square(6, 6), empty]), torch.cat([empty, square(6, 6)]), 3, 2.0)
    assert scores[:, 1].tolist() == [0, 0]
    assert scores[:, 2].isnan().all()


def test_ignored_pixels_do_not_count() -> None:
    label = square(6, 6)
    label[..., 12:, :] = 255
    prediction = square(6, 6)
    prediction[..., 12:, :] = 2
    assert surface_dice(prediction, label, 3, 0.0)[0, :2].tolist() == [1, 1]
    assert surface_dice(prediction, label, 3, 0.0)[0, 2].isnan()
