"""Confidence intervals by resampling patients, the unit that is independent; frames of one video are near-copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lap_monai.metrics.overlap import Counts, Floats, class_iou, pool_by_video, skip_nan_mean

#: With fewer patients a percentile interval is a picture of the two or three values drawn, not of the population.
MIN_VIDEOS = 5

Interval = tuple[float, float]


@dataclass(frozen=True)
class BootstrapIntervals:
    """Percentile intervals of the pooled IoU; None where too few patients carry one, and `reasons` says why."""

    level: float
    resamples: int
    n_videos: int
    miou: Interval | None
    iou: tuple[Interval | None, ...]  #: one per class
    reasons: dict[str, str]  #: "miou" or the class index as text → why there is no interval


def bootstrap_iou(
    matrices: Counts,
    videos: Sequence[str],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    min_videos: int = MIN_VIDEOS,
    seed: int = 0,
) -> BootstrapIntervals:
    """Resample videos with replacement, pool each resample, and take percentiles of its IoU per class and mean.

    A class's interval rests on the resamples that contain it; a resample's mean on the classes it contains.

    Args:
        matrices: counts per frame `(N, C, C)`, rows the truth.
        videos: the video (patient) of each frame.
        resamples: number of resamples.
        level: coverage, 0.95 for the 2.5 and 97.5 percentiles.
        min_videos: fewest patients for an interval; for a class, fewest patients whose truth contains it.
        seed: of the resampling; equal seeds give equal intervals.
    """
    names, pooled = pool_by_video(matrices, videos)
    shown = (pooled.sum(-1) > 0).sum(0)
    reasons = {
        str(c): f"{n} of {len(names)} patients show this class, an interval needs {min_videos}"
        for c, n in enumerate(shown)
        if n < min_videos
    }
    if len(names) < min_videos:
        reasons["miou"] = f"{len(names)} patients, an interval needs {min_videos}"
        return BootstrapIntervals(level, 0, len(names), None, (None,) * len(shown), reasons)
    scores = _resampled_iou(pooled, resamples, np.random.default_rng(seed))
    per_class = tuple(None if str(c) in reasons else _interval(scores[:, c], level) for c in range(len(shown)))
    return BootstrapIntervals(
        level, resamples, len(names), _interval(skip_nan_mean(scores.T), level), per_class, reasons
    )


def _resampled_iou(pooled: Counts, resamples: int, generator: np.random.Generator) -> Floats:
    videos, classes, _ = pooled.shape
    draws = generator.multinomial(videos, np.full(videos, 1 / videos), size=resamples)
    # Integers of float64: exact up to 2**53 pixels, and a matrix product runs in BLAS.
    sums = draws.astype(np.float64) @ pooled.reshape(videos, -1).astype(np.float64)
    return class_iou(sums.reshape(resamples, classes, classes))


def _interval(values: Floats, level: float) -> Interval:
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
