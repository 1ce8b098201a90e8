from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity
from tiny_data import picture

from lap_monai.checks import UserError
from lap_monai.replay import kid, ms_ssim_diversity, precision_recall
from lap_monai.replay.quality import squared_mmd


def vectors(count: int, seed: int, shift: float = 0.0, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, size))


# --- KID -----------------------------------------------------------------------------------------------------------


def loop_mmd(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_squared_mmd_by_plain_loops() -> None:
    x, y = vectors(7, 0), vectors(5, 1, shift=0.5)
    assert squared_mmd(x, y) == pytest.approx(loop_mmd(x, y))


def test_the_estimate_is_unbiased() -> None:
    """For standard normal numbers each of the three terms is E (x x' + 1)^3 = 1 + 3 E x² E x'² = 4."""
    rng = np.random.default_rng(0)
    values = [squared_mmd(rng.normal(size=(8, 1)), rng.normal(size=(8, 1))) for _ in range(4000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    # With mean m for y: E k(y, y') = 1 + 3 m² + 3 (1 + m²)² + (m³ + 3 m)², E k(x, y) = 1 + 3 (1 + m²).
    m = 0.7
    expected = 4 + (1 + 3 * m**2 + 3 * (1 + m**2) ** 2 + (m**3 + 3 * m) ** 2) - 2 * (1 + 3 * (1 + m**2))
    values = [squared_mmd(rng.normal(size=(8, 1)), rng.normal(m, size=(8, 1))) for _ in range(4000)]
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / np.sqrt(len(values)))


def test_kid_averages_subsets_and_reports_their_spread() -> None:
    real, same, other = vectors(300, 0), vectors(300, 1), vectors(300, 2, shift=1)
    close, far = kid(real, same), kid(real, other)
    assert abs(close.mean) < close.std < far.mean
    assert far.std > 0
    assert kid(real, other) == far
    assert kid(real, other, seed=1) != far
    everything = kid(real, other, subsets=1, subset_size=300)
    mean, spread = real.mean(0), real.std(0)
    assert everything.mean == pytest.approx(squared_mmd((real - mean) / spread, (other - mean) / spread))


def test_kid_does_not_depend_on_the_units_of_the_features() -> None:
    real, other = vectors(60, 0), vectors(60, 1, shift=1)
    scale = np.array([1, 10, 100, 0.1, 5, 2])
    assert kid(real * scale + 3, other * scale + 3).mean == pytest.approx(kid(real, other).mean)


# --- precision and recall ------------------------------------------------------------------------------------------


def loop_share_within(points: np.ndarray, others: np.ndarray, k: int) -> float:
    """Share of `points` within the ball of any of `others`."""
    radii = [sorted(np.linalg.norm(a - b) for j, b in enumerate(others) if j != i)[k - 1] for i, a in enumerate(others)]
    inside = [any(np.linalg.norm(p - o) <= r for o, r in zip(others, radii, strict=True)) for p in points]
    return float(np.mean(inside))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_by_plain_loops(k: int) -> None:
    real, synthetic = vectors(30, 0, size=2), vectors(20, 1, shift=1, size=2)
    mean, spread = real.mean(0), real.std(0)
    x, y = (real - mean) / spread, (synthetic - mean) / spread
    found = precision_recall(real, synthetic, k)
    assert found.precision == pytest.approx(loop_share_within(y, x, k))
    assert found.recall == pytest.approx(loop_share_within(x, y, k))
    assert 0 < found.precision < 1


def test_one_mode_is_precise_but_recalls_little_and_noise_is_the_reverse() -> None:
    real = vectors(200, 0)
    one_mode = real[:1] + vectors(200, 1) * 0.01
    assert precision_recall(real, one_mode).precision == 1
    assert precision_recall(real, one_mode).recall < 0.05
    wild = vectors(200, 2) * 6
    assert precision_recall(real, wild).precision < 0.3
    assert precision_recall(real, wild).recall > 0.9
    assert precision_recall(real, real) == (1, 1)


# --- diversity -----------------------------------------------------------------------------------------------------


def test_one_scale_is_the_structural_similarity_of_scikit_image() -> None:
    frames = np.stack([picture(seed, (16, 19)) for seed in (0, 1)])
    grey = frames @ np.array([0.299, 0.587, 0.114])
    _, full = structural_similarity(
        *grey, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    expected = max(0.0, full[5:-5, 5:-5].mean())  # where the window fits; negative likeness counts as none
    assert ms_ssim_diversity(frames, pairs=3) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", [(11, 11), (48, 64), (180, 200)])
def test_equal_images_have_no_diversity(size: tuple[int, int]) -> None:
    same = np.stack([picture(0, size)] * 3)
    varied = np.stack([picture(seed, size) for seed in range(6)])
    assert ms_ssim_diversity(same, pairs=3) == pytest.approx(1, abs=1e-4)
    assert ms_ssim_diversity(varied, pairs=15) < 0.8


def test_too_little_to_measure() -> None:
    with pytest.raises(UserError, match="two images of each kind, got 1 real"):
        kid(vectors(1, 0), vectors(5, 1))
    with pytest.raises(UserError, match="more than 3 images"):
        precision_recall(vectors(9, 0), vectors(3, 1))
    with pytest.raises(UserError, match="two images, got 1"):
        ms_ssim_diversity(np.stack([picture(0, (48, 64))]))
    with pytest.raises(UserError, match="11 pixels a side, got 10"):
        ms_ssim_diversity(np.stack([picture(0, (10, 64))] * 2))
