"""Who is nearest, and how near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Nearest:
    """The nearest training frame of each of N frames."""

    index: NDArray[np.int64]  #: `(N,)`, positions among the training frames
    distance: NDArray[np.float64]  #: `(N,)`, 0 for a copy
