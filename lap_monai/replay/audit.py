"""Does a generator give away its training frames? Synthetic images against what frames of new patients look like."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lap_monai.checks import UserError
from lap_monai.replay.feature_space import FeatureSpace
from lap_monai.replay.frames import Frames, require_same_size
from lap_monai.replay.nearest import Nearest
from lap_monai.replay.pixel_space import PixelSpace

#: Nearer than this in pixel space is a copy, whatever the null. In trials on Endoscapes and phantom frames, copies that
#: are flipped, re-encoded, of other light, shifted and cropped lay below 0.02, hardly any two patients' frames below
#: 0.05; `benchmarks/replay.py` measures it.
COPY_DISTANCE = 0.04

#: Patients that a null needs. Frames of one patient are alike: with fewer, a single one's look would set the limit.
MIN_PATIENTS = 5

#: N frames → features `(N, D)`.
Encode = Callable[[Frames], NDArray[np.float32]]

_QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 1.0)


def null_frames(level: float) -> int:
    """Return how many held-out frames a null needs: one of them must be able to lie beyond the limit."""
    return math.ceil(1 / level) - 1


def null_limit(distances: NDArray[np.float64], patients: Sequence[str], level: float = 0.01) -> float:
    """Return the distance below which a frame is nearer to the training frames than new patients' frames are.

    It is the k-th smallest distance, `k = floor(level (n + 1))`: if a further frame of a new patient is exchangeable
    with the n at hand, it lies below with a probability of at most `level` (split conformal prediction, Vovk et al.
    2005). Frames of a patient are alike, so this holds the better the more patients there are.

    Args:
        distances: `(n,)`, from each held-out frame to its nearest training frame.
        patients: n names; whose frame it is.
        level: share of new frames that may be flagged wrongly, above 0 and below 1.

    Raises:
        UserError: if there are too few frames or patients for that level.
    """
    if not 0 < level < 1:
        raise UserError(f"level {level} must be above 0 and below 1 (0.01 for 1 %).")
    needed, found = null_frames(level), len(set(patients))
    if len(distances) < needed:
        raise UserError(
            f"The audit's null has {len(distances)} held-out frames but needs {needed}: of fewer, none can mark the "
            f"nearest {100 * level:g} %; hold out more frames, or raise level to {1 / (len(distances) + 1):.2g}."
        )
    if found < MIN_PATIENTS:
        raise UserError(
            f"The audit's null has frames of {found} held-out patients but needs {MIN_PATIENTS}, lest one patient's "
            "look sets the limit; hold out more patients, none of them among the training frames."
        )
    # An addend against 0.01 * 100 being a little below 1.
    return float(np.sort(distances)[math.floor(level * (len(distances) + 1) + 1e-9) - 1])


@dataclass(frozen=True)
class AuditResult:
    """What an audit found about N images."""

    pixel: Nearest
    feature: Nearest | None  #: None without a network
    near_in_pixels: NDArray[np.bool_]  #: `(N,)`
    near_in_features: NDArray[np.bool_]  #: `(N,)`

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """`(N,)`: nearer to a training frame, in either space, than frames of new patients are."""
        return self.near_in_pixels | self.near_in_features

    @property
    def share(self) -> float:
        """Share of the images that are flagged; NaN of none."""
        return float(self.flagged.mean()) if len(self.flagged) else math.nan


class MemorisationAudit:
    """Flag images that are nearer to a training frame than all but the nearest of held-out patients' frames are.

    In two spaces: aligned pixels (`PixelSpace`), which finds copies that are flipped, shifted, cropped, re-encoded or
    of other light, and an encoder's features (`FeatureSpace`), which may find what is no copy but gives a scene away.
    In pixels, whatever lies below `COPY_DISTANCE` is flagged besides, lest a null with copies of its own hides others.

    Args:
        training: the M frames that the generator learned from.
        held_out: n frames of patients that it never saw, of the same size.
        patients: n names, whose each held-out frame is.
        encode: N frames → features `(N, D)`, such as `Teacher.features`; None for pixels alone.
        level: share of new patients' frames that each space may flag.

    Raises:
        UserError: if frames are missing or of different sizes, or the null has too few frames or patients.
    """

    def __init__(
        self,
        training: Frames,
        held_out: Frames,
        patients: Sequence[str],
        encode: Encode | None = None,
        level: float = 0.01,
    ) -> None:
        self.level = level
        self.encode = encode
        null_limit(np.zeros(len(held_out)), patients, level)  # too few are told before any work
        self.pixels = PixelSpace(training)
        require_same_size(held_out, self.pixels.size, "held-out frames")
        self.null_pixel = self.pixels.nearest(held_out).distance
        self.pixel_limit = max(null_limit(self.null_pixel, patients, level), COPY_DISTANCE)
        self.features: FeatureSpace | None = None
        self.null_feature: NDArray[np.float64] | None = None
        self.feature_limit: float | None = None
        if encode is not None:
            self.features = FeatureSpace(encode(training))
            self.null_feature = self.features.nearest(encode(held_out)).distance
            self.feature_limit = null_limit(self.null_feature, patients, level)
        self.counts = {"training": len(training), "held_out": len(held_out), "patients": len(set(patients))}

    def __call__(self, frames: Frames, features: NDArray[np.float32] | None = None) -> AuditResult:
        """Audit images.

        Args:
            frames: N images of the training frames' size.
            features: what `encode` makes of them, if that is at hand.

        Raises:
            UserError: if they are of another size.
        """
        pixel = self.pixels.nearest(frames)
        # At the limit lies a frame of the null itself; it does not count as flagged, nor does its equal.
        near_in_pixels = pixel.distance < self.pixel_limit
        if self.features is None or self.encode is None or self.feature_limit is None:
            return AuditResult(pixel, None, near_in_pixels, np.zeros(len(frames), bool))
        feature = self.features.nearest(self.encode(frames) if features is None else features)
        return AuditResult(pixel, feature, near_in_pixels, feature.distance < self.feature_limit)

    def points(self, features: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return features as points in whose distances `feature_limit` is given; None without features."""
        return None if self.features is None else self.features.points(features)

    def describe(self) -> dict[str, Any]:
        """Return limits and nulls for a manifest: what each image was compared with."""
        spaces = {"pixel": (self.pixel_limit, self.null_pixel)}
        if self.feature_limit is not None and self.null_feature is not None:
            spaces["feature"] = (self.feature_limit, self.null_feature)
        return {
            "level": self.level,
            **{f"{name}_frames" if name != "patients" else "held_out_patients": n for name, n in self.counts.items()},
            **{
                name: {
                    "limit": limit,
                    "null_quantiles": {f"{q:g}": float(np.quantile(null, q)) for q in _QUANTILES},
                    "null_share_flagged": float((null < limit).mean()),
                }
                for name, (limit, null) in spaces.items()
            },
        }
