"""One frame of the phantom, without files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lap_monai.data.phantom.cholecseg8k_layout import CholecystectomyVideo


def render_frame(
    video: int = 0,
    clip: int = 0,
    frame: int = 0,
    size: tuple[int, int] = (427, 240),
    seed: int = 0,
    frames: int = 40,
    clips: int = 5,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw the frame that `write_phantom(…, frames=frames, clips=clips, size=size, seed=seed)` writes.

    Args:
        video: which patient, counted from 0.
        clip: which clip of the patient, counted from 0.
        frame: which frame of the clip, counted from 0.
        size: `(W, H)` in pixels.
        seed: as for `write_phantom`.
        frames: likewise.
        clips: likewise.

    Returns:
        The RGB picture `(H, W, 3)` and the class indices of label space `cholecseg8k_13`, `(H, W)`, both `uint8`. The
        1-pixel border of the mask files is not there.
    """
    return CholecystectomyVideo(seed, video, frames, clips, size).render(clip, frame)
