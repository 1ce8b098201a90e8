"""Frames of phantom operations in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Operations(NamedTuple):
    """Frames `(N, H, W, 3)` uint8 of disjoint patients."""

    training: np.ndarray
    held_out: np.ndarray
    patients: list[str]  #: of the held-out frames
    others: np.ndarray  #: of further patients
