"""Weights that keep frequent classes from drowning rare ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lap_monai.checks import UserError


def balanced_class_weights(pixel_counts: ArrayLike, power: float = 0.5) -> list[float]:
    """Return one weight a class, proportional to `1 / frequency ** power`, of mean 1 over all pixels.

    Args:
        pixel_counts: pixels of each class, `(C,)`; `FrameDataset.pixel_counts` counts the masks that may be used.
        power: 0 weighs all pixels alike, 1 all classes alike; in between, rare classes gain without ruling.

    Returns:
        C weights. A class without a pixel gets the greatest weight of the others.

    Raises:
        UserError: if there is no pixel at all, or `power` is not between 0 and 1.
    """
    counts = np.asarray(pixel_counts, dtype=np.float64)
    if not counts.any():
        raise UserError("no pixel of any class is there to balance the classes by; check the budget and the masks.")
    if not 0 <= power <= 1:
        raise UserError(f"power={power}: give a number from 0 (all pixels alike) to 1 (all classes alike).")
    shares = counts / counts.sum()
    weights = np.where(shares > 0, shares, shares[shares > 0].min()) ** -power
    return (weights / (weights * shares).sum()).tolist()
