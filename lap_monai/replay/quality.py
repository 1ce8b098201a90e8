"""How good a set of images is: like real ones, as varied as they are, and not all alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim
from numpy.typing import NDArray
from torch import Tensor

from lap_monai.checks import UserError
from lap_monai.replay.frames import Frames, frame_size

Features = NDArray[np.floating]

_SUBSET = 100  # most vectors of a KID subset
_KERNEL, _SIGMA = 11, 1.5  # of SSIM, in pixels (Wang et al. 2003)
_PAIRS = 16  # compared at once
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class Kid(NamedTuple):
    """Kernel inception distance: mean and standard deviation over random subsets."""

    mean: float
    std: float


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float  #: of the synthetic images that lie among the real ones
    recall: float  #: of the real ones that lie among the synthetic images


def kid(real: Features, synthetic: Features, subsets: int = 100, subset_size: int = _SUBSET, seed: int = 0) -> Kid:
    """Return the kernel inception distance (Bińkowski et al. 2018) on given features.

    The unbiased estimate of the squared maximum mean discrepancy under the kernel `(x·y / D + 1)^3`: 0 on average where
    both come from one distribution, so a single value may be negative. Features are brought to the real ones' mean and
    spread first, since no convention fixes the scale of a given network's.

    Args:
        real: `(N, D)`.
        synthetic: `(M, D)`.
        subsets: how many pairs of random subsets are compared.
        subset_size: vectors of each; fewer if there are fewer.
        seed: of the subsets.

    Raises:
        UserError: if either has fewer than two vectors.
    """
    real, synthetic = _standardized(real, synthetic)
    size = min(subset_size, len(real), len(synthetic))
    if size < 2:
        raise UserError(f"KID needs two images of each kind, got {len(real)} real, {len(synthetic)} synthetic ones.")
    rng = np.random.default_rng(seed)
    values = [
        squared_mmd(real[rng.choice(len(real), size, False)], synthetic[rng.choice(len(synthetic), size, False)])
        for _ in range(subsets)
    ]
    return Kid(float(np.mean(values)), float(np.std(values)))


def squared_mmd(x: Features, y: Features) -> float:
    """Return the unbiased estimate of the squared MMD of `(N, D)` and `(M, D)` under `(x·y / D + 1)^3`."""
    n, m = len(x), len(y)
    within_x, within_y, across = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    return float(
        (within_x.sum() - within_x.trace()) / (n * (n - 1))
        + (within_y.sum() - within_y.trace()) / (m * (m - 1))
        - 2 * across.mean()
    )


def precision_recall(real: Features, synthetic: Features, k: int = 3) -> PrecisionRecall:
    """Return improved precision and recall (Kynkäänniemi et al. 2019) on given features.

    A set's manifold is the union of balls around its vectors, each reaching to the k-th nearest other one. Precision
    asks for synthetic images within the real manifold, recall for real ones within the synthetic manifold.

    Args:
        real: `(N, D)`.
        synthetic: `(M, D)`; compare sets of like size, since manifolds grow with their sets.
        k: which neighbour.

    Raises:
        UserError: if either has k vectors or fewer.
    """
    if min(len(real), len(synthetic)) <= k:
        raise UserError(
            f"Precision and recall need more than {k} images of each kind, got {len(real)} real, {len(synthetic)} "
            "synthetic ones."
        )
    first, second = (torch.from_numpy(part) for part in _standardized(real, synthetic))
    across = _distances(first, second)
    return PrecisionRecall(
        precision=float((across <= _radii(first, k)[:, None]).any(0).double().mean()),
        recall=float((across <= _radii(second, k)[None]).any(1).double().mean()),
    )


def ms_ssim_diversity(frames: Frames, pairs: int = 100, seed: int = 0) -> float:
    """Return the mean multi-scale structural similarity of random pairs of a set's images: the lower, the more varied.

    As many of the five scales (Wang et al. 2003) as the images have room for, their weights scaled to sum 1.

    Args:
        frames: images of one size, at least two, no side below 11 pixels.
        pairs: how many pairs of two images are drawn.
        seed: of the draw.

    Raises:
        UserError: if there are fewer images, or they are smaller.
    """
    if len(frames) < 2:
        raise UserError(f"The diversity of a set needs two images, got {len(frames)}.")
    weights = _weights(min(frame_size(frames, "images")))
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.choice(len(frames), 2, replace=False) for _ in range(pairs)])
    values = [_likeness(frames, part, weights) for part in np.array_split(drawn, -(-pairs // _PAIRS))]
    return float(torch.cat(values).mean())


def _weights(shortest: int) -> tuple[float, ...]:
    # After n - 1 halvings the kernel must still fit; besides, this is what MONAI asks for.
    fits = (min(shortest >> (n - 1), shortest // max(1, n - 1) ** 2) >= _KERNEL for n in range(1, len(_MS_WEIGHTS) + 1))
    scales = sum(takewhile(bool, fits))
    if not scales:
        raise UserError(f"Structural similarity needs images of {_KERNEL} pixels a side, got {shortest}.")
    return tuple(weight / sum(_MS_WEIGHTS[:scales]) for weight in _MS_WEIGHTS[:scales])


def _likeness(frames: Frames, pairs: NDArray[np.int64], weights: tuple[float, ...]) -> Tensor:
    """Multi-scale similarity `(P, 1)` of the grey pictures of pairs `(P, 2)`."""
    first, second = (_grey([frames[int(index)] for index in side]) for side in pairs.T)
    kernel, sigma = (_KERNEL, _KERNEL), (_SIGMA, _SIGMA)
    return compute_ms_ssim(first, second, 2, 255, kernel_size=kernel, kernel_sigma=sigma, weights=weights)


def _grey(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(frames) @ np.array([0.299, 0.587, 0.114], np.float32))[:, None]


def _standardized(real: Features, synthetic: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, spread = real.mean(0, dtype=np.float64), np.maximum(real.std(0, dtype=np.float64), 1e-6)
    return (real - mean) / spread, (synthetic - mean) / spread


def _kernel(x: Features, y: Features) -> NDArray[np.float64]:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point's k-th nearest other one; the nearest of all is the point itself."""
    return _distances(points, points).kthvalue(k + 1, dim=1).values
