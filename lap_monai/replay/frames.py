"""Frames of one size, however they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lap_monai.checks import UserError
from lap_monai.data import FrameCache, Row, is_black

Pixels = NDArray[np.uint8]


class Frames(Protocol):
    """N frames `(H, W, 3)` uint8, all of one size: an array `(N, H, W, 3)`, a list, a `CachedFrames`."""

    def __len__(self) -> int:
        """Number of frames."""

    def __getitem__(self, index: int, /) -> Pixels:
        """Frame `index`."""


class CachedFrames:
    """The frames of datalist rows that show something, resized once and read from memory maps.

    Black frames, which a camera outside of the body leaves, are left out, as in a generator's training
    (`lap_monai.data.UnmaskedFrames`): one is as near to the next as a copy.

    Args:
        rows: datalist rows, of a data set or of a synthetic set.
        size: `(H, W)` to which all are brought, whatever their shape, as training does.
        cache_dir: see `FrameCache.build`.

    Raises:
        UserError: if there are no rows, a frame cannot be read, or all are black.
    """

    def __init__(self, rows: Sequence[Row], size: Sequence[int], cache_dir: str | Path | None = None) -> None:
        cache = FrameCache.build(rows, size, cache_dir)
        self._cache = cache
        self._positions = [i for i in range(len(cache)) if not is_black(Image.fromarray(cache.image(i)))]
        if not self._positions:
            raise UserError(f"All of the {len(cache)} frames are black; check dataset_dir and the split.")
        #: The rows of the frames that are here.
        self.rows = [rows[i] for i in self._positions]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._positions)

    def __getitem__(self, index: int, /) -> Pixels:
        """Frame `index`, a read-only view."""
        return self._cache.image(self._positions[index])


def frame_batches(frames: Frames, batch_size: int) -> Iterator[Tensor]:
    """Yield the frames in order as uint8 tensors `(B, 3, H, W)`, the last of which may be shorter."""
    for start in range(0, len(frames), batch_size):
        batch = np.stack([frames[index] for index in range(start, min(start + batch_size, len(frames)))])
        yield torch.from_numpy(batch).permute(0, 3, 1, 2)


def frame_size(frames: Frames, what: str) -> tuple[int, int]:
    """Return `(H, W)` of the first frame.

    Args:
        frames: at least one frame.
        what: what to call them in an error.

    Raises:
        UserError: if there is none, or it is no RGB picture of bytes.
    """
    if not len(frames):
        raise UserError(f"There are no {what}; check the folder and the part of the split.")
    shape, dtype = frames[0].shape, frames[0].dtype
    if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
        raise UserError(f"Expected {what} as (H, W, 3) uint8, got {shape} {dtype}; pass 8-bit RGB frames.")
    return shape[0], shape[1]


def require_same_size(frames: Frames, size: tuple[int, int], what: str) -> None:
    """Check that the first of `frames` is of `size` `(H, W)`.

    Raises:
        UserError: if it is not, or there is none.
    """
    found = frame_size(frames, what)
    if found != size:
        raise UserError(
            f"The {what} are {found[1]}x{found[0]}, the training frames {size[1]}x{size[0]}; "
            "bring both to one size (frame_size)."
        )
