"""Small moving pictures, and medical files made of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

#: What must never be found in an output: planted into headers, file names and containers.
SECRETS = ("MUSTERMANN", "ERIKA", "PAT-4711", "19640812", "KLINIKUM-SUED", "20240317", "081559")


def moving_picture(count: int, height: int = 48, width: int = 80) -> Frames:
    """Frames `(count, H, W, 3)`: smooth colours, unequal along both axes, with a block that moves to the right."""
    y, x = np.mgrid[:height, :width]
    ground = np.stack([120 + x * 100 // width, 60 + y * 120 // height, np.full_like(x, 70)], axis=-1)
    frames = np.repeat(ground[None], count, axis=0).astype(np.uint8)
    for i, frame in enumerate(frames):
        frame[8:20, 4 + 3 * i : 20 + 3 * i] = (240, 30, 30)
    return frames


def labels_of(frame: Frames, classes: int = 8) -> Frames:
    """Class ids `(H, W)` that depend on both coordinates and on the frame: a stand-in for a network."""
    return ((frame[..., 0] // 16 + frame[..., 1] // 32) % classes).astype(np.uint8)
