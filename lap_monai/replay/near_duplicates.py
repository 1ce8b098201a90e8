"""Images of a set that show the same thing twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lap_monai.data.duplicates import find_duplicates, sign_frame
from lap_monai.replay.frames import Frames


def near_duplicates(
    frames: Frames,
    order: Sequence[int],
    points: NDArray[np.float32] | None = None,
    limit: float = 0.0,
) -> dict[int, int]:
    """Find images that repeat a better one.

    Two images are near-duplicates if their perceptual hashes are close and their thumbnails correlate (as
    `lap_monai.data.duplicates` finds one picture in two videos), or if their features lie closer than `limit`.

    Args:
        frames: N images; uniform ones have no hash.
        order: positions of the images to look at, best first: of near-duplicates the first is kept.
        points: features whose Euclidean distances mean something, `(N, D)`; None leaves them out.
        limit: distance of points below which two images say the same.

    Returns:
        Position of a repetition → position of the kept image that it repeats.
    """
    signatures = [sign_frame(Image.fromarray(frames[index])) for index in order]
    # Each image is a video of its own: within one video nothing would be reported.
    pairs = find_duplicates(signatures, [str(place) for place in range(len(order))])
    repeated: dict[int, set[int]] = {}
    for pair in pairs:
        repeated.setdefault(order[pair.second], set()).add(order[pair.first])
    kept: list[int] = []
    found: dict[int, int] = {}
    for index in order:
        same = repeated.get(index, set())
        if points is not None and kept:
            distances = np.linalg.norm(points[kept] - points[index], axis=1)
            same = same | {kept[place] for place in np.flatnonzero(distances < limit)}
        # Chains of likeness are cut: what repeats only an image that was itself left out stays.
        original = next((other for other in kept if other in same), None)
        if original is None:
            kept.append(index)
        else:
            found[index] = original
    return found
