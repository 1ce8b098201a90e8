"""Is one method better than another on unseen patients? Paired differences, patients as the unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import permutation_test

from lap_monai.metrics.bootstrap import MIN_VIDEOS, Interval
from lap_monai.metrics.overlap import Floats, skip_nan_mean

#: With fewer draws of the masks, a bootstrap over them is a picture of the two or three at hand.
MIN_DRAWS = 5

#: Up to so many patients all 2^n changes of sign are gone through; beyond, a random choice of `_CHANCE` of them.
_ALL_SIGNS, _CHANCE = 14, 9999


@dataclass(frozen=True)
class PairedDifference:
    """How much higher one method scores than another, and how sure that is."""

    n_patients: int  #: that have a score under both methods
    n_draws: int  #: repetitions (draws of the masks) that both methods were trained on
    draws_better: int  #: those of them in which the difference, averaged over patients, is above 0
    difference: float | None  #: mean over patients of the difference, each patient's averaged over draws first
    interval: Interval | None  #: bootstrap over patients, for the draws at hand
    interval_with_draws: Interval | None  #: bootstrap over patients and draws, for any draw of the masks
    p: float | None  #: of the sign-flip permutation test over patients, two-sided
    reasons: dict[str, str]  #: "test" or "interval_with_draws" → why there is none

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def paired_difference(
    first: Floats,
    second: Floats,
    *,
    min_patients: int = MIN_VIDEOS,
    min_draws: int = MIN_DRAWS,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Compare two methods' scores of the same patients.

    Seeds, draws and frames are no patients: a difference is averaged over the draws first, so that however often a
    training is repeated, the test's sample size stays the number of patients.

    Args:
        first: scores `(draws, patients)` of one method, NaN where a patient has none.
        second: of the other, the same draws and patients in the same order.
        min_patients: fewest patients for the test and the intervals.
        min_draws: fewest draws for the interval over patients and draws.
        level: coverage of the intervals.
        resamples: of the bootstraps.
        seed: of bootstraps and, with many patients, of the test.

    Returns:
        `first - second`; test and intervals None where too few patients or draws carry them, and `reasons` says so.

    Raises:
        ValueError: if the two have different shapes.
    """
    if np.shape(first) != np.shape(second) or np.ndim(first) != 2:
        raise ValueError(f"expected two arrays (draws, patients), got {np.shape(first)} and {np.shape(second)}.")
    both = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    both = both[:, np.isfinite(both).any(0)]
    both = both[np.isfinite(both).any(1)]
    draws, patients = both.shape
    means = skip_nan_mean(both)
    better = int((skip_nan_mean(both.T) > 0).sum()) if patients else 0
    difference = float(means.mean()) if patients else None
    if patients < min_patients:
        reason = f"{patients} patient{'' if patients == 1 else 's'}; a test or an interval needs {min_patients}"
        return PairedDifference(patients, draws, better, difference, None, None, None, {"test": reason})
    reasons: dict[str, str] = {}
    generator = np.random.default_rng(seed)
    with_draws = None
    if draws < min_draws:
        reasons["interval_with_draws"] = (
            f"{draws} draw{'' if draws == 1 else 's'}; an interval over them needs {min_draws}"
        )
    else:
        with_draws = _crossed_interval(both, resamples, level, generator)
    interval = patient_interval(means, resamples=resamples, level=level, seed=seed)
    return PairedDifference(
        patients, draws, better, difference, interval, with_draws, sign_flip_p(means, seed), reasons
    )


def sign_flip_p(differences: Floats, seed: int = 0) -> float:
    """Return the two-sided p of the hypothesis that differences `(N,)` are as likely negative as positive.

    The test is on their mean, by changing signs. With n patients p cannot fall below 2 / 2^n: 0.0625 for 5.
    """
    if not np.any(differences):
        return 1.0
    found = permutation_test(
        (np.asarray(differences, dtype=np.float64),),
        lambda values, axis: np.mean(values, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf if len(differences) <= _ALL_SIGNS else _CHANCE,
        rng=np.random.default_rng(seed),
        vectorized=True,
    )
    return float(min(1.0, found.pvalue))


def patient_interval(
    values: Floats, *, resamples: int = 2000, level: float = 0.95, seed: int = 0, min_patients: int = MIN_VIDEOS
) -> Interval | None:
    """Return the percentile interval of the mean of `values` `(patients,)`, resampled; None with too few of them."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < min_patients:
        return None
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    return _percentiles(values[drawn].mean(1), level)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p of several tests; a test that was not made stays None and does not count.

    Holm 1979: the k-th smallest of m is multiplied by m - k + 1, and no adjusted p is below that of a smaller one.
    """
    made = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(made):
        highest = max(highest, min(1.0, p * (len(made) - rank)))
        adjusted[place] = highest
    return adjusted


def _crossed_interval(both: Floats, resamples: int, level: float, generator: np.random.Generator) -> Interval:
    """Resample draws and patients independently, since each draw was tested on each patient."""
    draws, patients = both.shape
    rows = generator.integers(draws, size=(resamples, draws))
    columns = generator.integers(patients, size=(resamples, patients))
    drawn = both[rows.T[:, :, None], columns]  # (draws, resamples, patients)
    return _percentiles(skip_nan_mean(skip_nan_mean(drawn).T), level)


def _percentiles(values: Floats, level: float) -> Interval:
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
