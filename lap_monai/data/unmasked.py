"""Frames of which no mask is asked: what a generator learns from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Randomizable
from PIL import Image
from torch.utils.data import Dataset

from lap_monai.checks import UserError, require_dir
from lap_monai.data.cache import FrameCache
from lap_monai.data.frame_probe import is_black
from lap_monai.data.layout import Row, row_id
from lap_monai.data.layouts import scan_layout
from lap_monai.data.ordering import natural_key
from lap_monai.keys import CLIP, FRAME, IMAGE, LABEL, PHASE, VIDEO

__all__ = ["UnmaskedFrames", "read_unmasked"]

logger = logging.getLogger(__name__)

_SUFFIXES = {".png", ".jpg", ".jpeg"}

#: Name of the layout that is none: a folder of images for each patient.
FOLDERS = "folders"


def read_unmasked(root: str | Path, layout: str | None = None) -> list[Row]:
    """Return datalist rows of all frames of a data set, none of which names a mask.

    Args:
        root: the data set's folder.
        layout: a name of `LAYOUTS`; None recognises it; `"folders"` takes every PNG or JPEG below `root`, and the first
            folder below `root` as its patient.

    Raises:
        UserError: if the folder is missing, holds no frames, or is laid out otherwise.
    """
    if layout == FOLDERS:
        return _read_folders(require_dir(root, "dataset_dir"))
    _, folder, rows, _ = scan_layout(root, layout)
    if not rows:
        raise UserError(f"dataset_dir {str(folder)!r} holds no frames; check the folder.")
    return [{**row, LABEL: None} for row in rows]


def _read_folders(root: Path) -> list[Row]:
    paths = sorted(
        (path for path in root.glob("*/**/*") if path.suffix.lower() in _SUFFIXES),
        key=lambda path: natural_key(path.relative_to(root).as_posix()),
    )
    if not paths:
        raise UserError(f"dataset_dir {str(root)!r}: expected PATIENT/…/frame.png or .jpg; found no such file.")
    rows: list[Row] = []
    for path in paths:
        patient = path.relative_to(root).parts[0]
        number = rows[-1][FRAME] + 1 if rows and rows[-1][VIDEO] == patient else 0
        clip = path.parent.relative_to(root).as_posix()
        image = os.path.abspath(path)
        rows.append({IMAGE: image, LABEL: None, VIDEO: patient, CLIP: clip, FRAME: number, PHASE: None})
    return rows


class UnmaskedFrames(Dataset[dict[str, Any]]):
    """Frames of a cache as samples: `image`, float32 `(3, H, W)` RGB in [-1, 1], and the strings `video` and `id`.

    Black frames, which a camera outside of the body leaves, are left out. `dataset[(index, seed)]` seeds the transform
    first, as `FrameDataset` does, so that a sample is a function of index and seed alone.

    Args:
        data: rows of the frames, all of them in `cache`.
        cache: may hold more frames.
        transform: a dictionary transform on the sample, for instance `RandFlipd`.

    Raises:
        UserError: if a row is not in the cache, or all frames are black.
    """

    def __init__(
        self,
        data: Sequence[Row],
        cache: FrameCache,
        transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.cache, self.transform = cache, transform
        positions = [cache.position(row) for row in data]
        kept = [i for i, position in enumerate(positions) if not is_black(Image.fromarray(cache.image(position)))]
        if not kept:
            raise UserError(f"All of the {len(data)} frames are black; check dataset_dir and the split.")
        if len(kept) < len(data):
            logger.info("%d of %d frames are black and left out.", len(data) - len(kept), len(data))
        self.rows = [data[i] for i in kept]
        self._positions = [positions[i] for i in kept]

    def __len__(self) -> int:
        """Number of frames that are not black."""
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return sample `index`, or sample `(index, seed)`."""
        index, seed = key if isinstance(key, tuple) else (key, None)
        index = range(len(self))[index]  # negative indices, and IndexError past the end
        pixels = self.cache.image(self._positions[index]).astype(np.float32)
        row = self.rows[index]
        sample: dict[str, Any] = {
            IMAGE: torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1).contiguous(),
            VIDEO: row[VIDEO],
            "id": row_id(row),
        }
        if self.transform is not None:
            if seed is not None and isinstance(self.transform, Randomizable):
                self.transform.set_random_state(seed=seed)
            sample = self.transform(sample)
        image = sample[IMAGE]
        sample[IMAGE] = (image.as_tensor() if isinstance(image, MetaTensor) else image).contiguous()
        return sample
