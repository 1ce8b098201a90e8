"""Which images of a pool to keep so that every class has its share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lap_monai.checks import UserError

#: Share of a class's pixels at which the first ones stop counting much more than the next.
_KNEE = 1e-3


def select_balanced(pixels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Choose images so that thin and rare classes are represented.

    Maximises `sum_c log(knee + sum_{i chosen} w_ic)`, `w_ic` the share of the pool's pixels of class c that image i
    holds: every class counts the same, whatever its size, and the more of a class is there, the less more of it is
    worth. The objective is monotone and submodular, so choosing the best image one by one comes within 1 - 1/e of the
    optimum (Nemhauser et al. 1978). Ties go to the earlier image.

    Args:
        pixels: of each class in each of the N images, `(N, C)`. Classes that no image holds do not count.
        count: how many to choose; at most N.

    Returns:
        `(count,)` positions, in the order in which they were chosen: the first k are the choice of k.

    Raises:
        UserError: if there are fewer than `count` images.
    """
    if not 0 <= count <= len(pixels):
        raise UserError(
            f"{count} images are wanted, but {len(pixels)} passed the filters; generate more, or lower target_count."
        )
    total = pixels.sum(0)
    weights = pixels[:, total > 0] / total[total > 0]
    reached = np.full(weights.shape[1], _KNEE)
    free = np.ones(len(weights), bool)
    chosen = np.empty(count, np.int64)
    for place in range(count):
        gain = np.log1p(weights / reached).sum(1)
        chosen[place] = np.argmax(np.where(free, gain, -np.inf))
        free[chosen[place]] = False
        reached += weights[chosen[place]]
    return chosen
