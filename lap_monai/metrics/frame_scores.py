"""What an evaluation keeps of every frame: enough to compute any of the scores, and small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lap_monai.metrics.overlap import Counts, Floats


@dataclass(frozen=True)
class FrameScores:
    """Per-frame statistics of N evaluated frames and C classes; frames without a labelled pixel are left out."""

    matrices: Counts  #: `(N, C, C)`, rows the truth
    videos: tuple[str, ...]  #: patient of each frame
    ids: tuple[str, ...]  #: name of each frame
    size: tuple[int, int]  #: (H, W) of the compared masks
    nsd: Floats | None = None  #: `(N, C)` normalised surface Dice
    nsd_tolerance: float | None = None  #: in pixels at `size`

    def __post_init__(self) -> None:
        counts = {len(self.matrices), len(self.videos), len(self.ids)}
        if self.nsd is not None:
            counts.add(len(self.nsd))
        if len(counts) != 1:
            raise ValueError(f"FrameScores: expected one entry per frame everywhere, got {sorted(counts)}.")

    @property
    def confusion(self) -> Counts:
        """The pooled confusion matrix, `(C, C)`."""
        return np.asarray(self.matrices).sum(0)
