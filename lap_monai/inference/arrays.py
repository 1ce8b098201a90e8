"""Frames that are in memory, or come from any iterable of a program's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from lap_monai.inference.source import Failure, Item, Pixels
from lap_monai.inference.video import frame_name


class Arrays:
    """Frames from an array `(N, H, W, 3)`, a tensor `(N, 3, H, W)`, a list of such frames, or any iterable.

    Args:
        frames: uint8 RGB; a frame of another form becomes a `Failure`.
        fps: frame rate, if the frames are a sequence in time.
    """

    kind = "arrays"
    fingerprint = "arrays"

    def __init__(self, frames: Iterable[Pixels | torch.Tensor], fps: float | None = None) -> None:
        self._frames = frames
        self.fps = fps
        self.total = len(frames) if isinstance(frames, (Sequence, torch.Tensor, np.ndarray)) else None

    def items(self, start: int = 0) -> Iterator[Item | Failure]:
        """Yield the frames from index `start` on."""
        from lap_monai.inference.predictor import as_frame

        for index, frame in islice(enumerate(self._frames), start, None):
            try:
                yield Item(frame_name(index), index, as_frame(frame), index / self.fps if self.fps else None)
            except ValueError as error:
                yield Failure(frame_name(index), index, str(error))
