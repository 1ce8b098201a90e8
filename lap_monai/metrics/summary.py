"""One row of `results.json` from per-frame statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lap_monai.metrics.bootstrap import MIN_VIDEOS, bootstrap_iou
from lap_monai.metrics.frame_scores import FrameScores
from lap_monai.metrics.overlap import (
    AbsentPolicy,
    Floats,
    class_dice,
    class_iou,
    dice,
    iou,
    iou_per_video,
    miou,
    pool_by_video,
    skip_nan_mean,
)


def summarise(
    frames: FrameScores, classes: Sequence[str], *, min_videos: int = MIN_VIDEOS, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Return every score of an evaluated set as a JSON-able dict.

    Absent classes are null, skipped in means, listed under `absent` and counted in `n_present`. Pooled and per-video
    scores use `AbsentPolicy.TRUTH`, per-image scores and NSD `AbsentPolicy.UNION`; the row says so under
    `absent_policy`.

    Args:
        frames: per-frame statistics of at least one frame.
        classes: class names by index.
        min_videos: fewest patients for a bootstrap interval.
        resamples: bootstrap resamples.
        seed: of the bootstrap.
    """
    per_class = iou(frames.matrices)
    per_dice = dice(frames.matrices)
    frames_with = (frames.matrices.sum(-1) > 0).sum(0)
    return {
        "miou": nullable(miou(per_class)),
        "mdice": nullable(miou(per_dice)),
        "iou": by_class(per_class, classes),
        "dice": by_class(per_dice, classes),
        "n_frames": len(frames.ids),
        "n_videos": len(set(frames.videos)),
        "n_present": int(np.isfinite(per_class).sum()),
        "absent": [name for name, value in zip(classes, per_class, strict=True) if np.isnan(value)],
        "absent_policy": {
            "pooled": AbsentPolicy.TRUTH.value,
            "per_video": AbsentPolicy.TRUTH.value,
            "per_image": AbsentPolicy.UNION.value,
        },
        "frames_with_class": dict(zip(classes, frames_with.tolist(), strict=True)),
        "per_image": _per_image(frames, classes),
        "per_video": _per_video(frames, classes),
        "nsd": _nsd(frames, classes),
        "intervals": _intervals(frames, classes, min_videos, resamples, seed),
        "confusion": frames.confusion.tolist(),
        "size": list(frames.size),
    }


def by_class(values: Floats, classes: Sequence[str]) -> dict[str, float | None]:
    """Return `{class: value}`, with None for NaN."""
    return {name: nullable(value) for name, value in zip(classes, values, strict=True)}


def nullable(value: float) -> float | None:
    """Return `value` as a float that JSON can hold: None for NaN."""
    return None if np.isnan(value) else float(value)


def frame_miou(frames: FrameScores) -> Floats:
    """Return each frame's mean IoU, `(N,)`, over the classes its truth or prediction contains."""
    return skip_nan_mean(class_iou(frames.matrices, AbsentPolicy.UNION).T)


def _per_image(frames: FrameScores, classes: Sequence[str]) -> dict[str, Any]:
    each = class_iou(frames.matrices, AbsentPolicy.UNION)
    mean, mean_dice = skip_nan_mean(each), skip_nan_mean(class_dice(frames.matrices, AbsentPolicy.UNION))
    return {
        "miou": nullable(miou(mean)),
        "iou": by_class(mean, classes),
        "mdice": nullable(miou(mean_dice)),
        "dice": by_class(mean_dice, classes),
        "n_scored": dict(zip(classes, np.isfinite(each).sum(0).tolist(), strict=True)),
    }


def _per_video(frames: FrameScores, classes: Sequence[str]) -> dict[str, Any]:
    names, pooled = pool_by_video(frames.matrices, frames.videos)
    each = class_iou(pooled)
    mean, mean_dice = iou_per_video(frames.matrices, frames.videos), skip_nan_mean(class_dice(pooled))
    return {
        "miou": nullable(miou(mean)),
        "iou": by_class(mean, classes),
        "mdice": nullable(miou(mean_dice)),
        "dice": by_class(mean_dice, classes),
        "n_scored": dict(zip(classes, np.isfinite(each).sum(0).tolist(), strict=True)),
        "videos": {
            name: {"miou": nullable(miou(row)), "iou": by_class(row, classes), "n_frames": frames.videos.count(name)}
            for name, row in zip(names, each, strict=True)
        },
    }


def _nsd(frames: FrameScores, classes: Sequence[str]) -> dict[str, Any] | None:
    if frames.nsd is None:
        return None
    mean = skip_nan_mean(frames.nsd)
    return {
        "tolerance_px": frames.nsd_tolerance,
        "mean": nullable(miou(mean)),
        "per_image": by_class(mean, classes),
        "n_scored": dict(zip(classes, np.isfinite(frames.nsd).sum(0).tolist(), strict=True)),
    }


def _intervals(
    frames: FrameScores, classes: Sequence[str], min_videos: int, resamples: int, seed: int
) -> dict[str, Any]:
    found = bootstrap_iou(frames.matrices, frames.videos, min_videos=min_videos, resamples=resamples, seed=seed)
    return {
        "level": found.level,
        "over": "videos",
        "resamples": found.resamples,
        "seed": seed,
        "miou": list(found.miou) if found.miou else None,
        "iou": {name: list(pair) if pair else None for name, pair in zip(classes, found.iou, strict=True)},
        "reasons": {key if key == "miou" else classes[int(key)]: why for key, why in found.reasons.items()},
    }
