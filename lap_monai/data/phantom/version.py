"""What a phantom data set is determined by."""

from __future__ import annotations

import numpy as np

#: Raised whenever the same seed would give other pixels. Results on the phantom name it.
PHANTOM_VERSION = 1


def video_seed(seed: int, video: int) -> np.random.SeedSequence:
    """The seed of one video: the same whatever else is drawn."""
    return np.random.SeedSequence(seed, spawn_key=(PHANTOM_VERSION, video))


def texture_cells(size: tuple[int, int]) -> int:
    """Samples along a texture's side that suit frames of `(W, H)`."""
    return 256 if min(size) >= 160 else 128
