"""Frames on disk for the tests of loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Rows = list[dict[str, Any]]
WriteRows = Callable[..., Rows]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """A function that writes frames and masks of random blocks, in values of CholecSeg8k, and returns their rows."""

    def write(count: int = 4, size: tuple[int, int] = (24, 40), masks: bool = True, folder: str = "set") -> Rows:
        rng = np.random.default_rng(count)
        root = tmp_path / folder
        root.mkdir()
        rows = []
        for i in range(count):
            frame = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            blocks = rng.choice(np.array([50, 11, 21, 12, 31], np.uint8), (-(-size[0] // 4), -(-size[1] // 4)))
            mask = blocks.repeat(4, axis=0).repeat(4, axis=1)[: size[0], : size[1]]
            image, label = root / f"frame_{i}.png", root / f"frame_{i}_mask.png"
            Image.fromarray(frame).save(image)
            Image.fromarray(mask).save(label)
            rows.append(
                {
                    "image": str(image),
                    "label": str(label) if masks else None,
                    "video": f"video{i % 2:02d}",
                    "clip": f"video{i % 2:02d}_00000",
                    "frame": i,
                    "phase": ["Preparation", None][i % 2],
                }
            )
        return rows

    return write
