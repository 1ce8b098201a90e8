"""Frames of phantom operations, split by patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from replay_frames import Operations

from lap_monai.data import read_layout, write_phantom
from lap_monai.replay import CachedFrames


@pytest.fixture(scope="session")
def phantom_operations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen operations of ten frames, 80x48, in CholecSeg8k's layout; not to be changed."""
    folder = tmp_path_factory.mktemp("operations") / "phantom"
    return write_phantom(folder, videos=16, frames=10, clips=5, size=(80, 48))


@pytest.fixture(scope="session")
def operations(phantom_operations: Path, tmp_path_factory: pytest.TempPathFactory) -> Operations:
    """The frames of four patients to learn from, of ten held out and of two more."""
    rows = read_layout(phantom_operations)
    cached = CachedFrames(rows, (48, 80), tmp_path_factory.mktemp("cache"))
    frames = np.stack(list(cached))
    videos = np.array([row["video"] for row in cached.rows])
    names = sorted(set(videos))
    training, held_out, others = (np.isin(videos, names[part]) for part in (slice(4), slice(4, 14), slice(14, 16)))
    return Operations(frames[training], frames[held_out], videos[held_out].tolist(), frames[others])
