"""How unusual a frame's colours and exposure are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

from lap_monai.replay.frames import Frames, Pixels

#: Part of the covariance that is replaced by its diagonal, for a few frames to give an invertible one.
_SHRINKAGE = 0.05
_SMALLEST = 1e-3  # variance in units of Lab

_STRIDE = 2  # pixels: every fourth one is looked at


class ColourModel:
    """Distance of a frame's colour and exposure from those of training frames.

    A frame is summed up by mean and standard deviation of its L*, a* and b* over the pixels; the distance is that of
    Mahalanobis, so it knows which colours go together. Exposure is in L*: a frame that is burnt out, too dark or flat
    is as far as one of odd colours.

    Args:
        training: M frames, M >= 2.

    Raises:
        ValueError: if there are fewer.
    """

    def __init__(self, training: Frames) -> None:
        if len(training) < 2:
            raise ValueError(f"ColourModel: expected at least 2 training frames, got {len(training)}.")
        statistics = colour_statistics(training)
        self._mean = statistics.mean(0)
        covariance = np.cov(statistics, rowvar=False)
        diagonal = np.diag(np.maximum(np.diag(covariance), _SMALLEST))
        self._precision = np.linalg.inv((1 - _SHRINKAGE) * covariance + _SHRINKAGE * diagonal)

    def distance(self, frames: Frames) -> NDArray[np.float64]:
        """Return the distances `(N,)` of frames; about 2.4 is usual (the root of 6 numbers)."""
        difference = colour_statistics(frames) - self._mean
        return np.sqrt(np.einsum("ni,ij,nj->n", difference, self._precision, difference))


def colour_statistics(frames: Frames) -> NDArray[np.float64]:
    """Return mean and standard deviation of L*, a*, b* of each frame, `(N, 6)`."""
    return np.stack([_statistics(frames[index]) for index in range(len(frames))])


def _statistics(frame: Pixels) -> NDArray[np.float64]:
    lab = rgb2lab(frame[::_STRIDE, ::_STRIDE]).reshape(-1, 3)
    return np.concatenate([lab.mean(0), lab.std(0)])
