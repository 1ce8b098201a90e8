"""Images of a synthetic set as frames."""

from __future__ import annotations

from collections.abc import Sequence

from lap_monai.replay.frames import Pixels
from lap_monai.replay.synthetic_set import SyntheticSet


class SetFrames:
    """Some images of a set, read when they are looked at.

    Args:
        synthetic: the set.
        indices: of its images.
    """

    def __init__(self, synthetic: SyntheticSet, indices: Sequence[int]) -> None:
        self.synthetic, self.indices = synthetic, list(indices)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    def __getitem__(self, place: int, /) -> Pixels:
        """The image at a place among the indices, `(H, W, 3)` uint8."""
        return self.synthetic.read(self.indices[place])

    def part(self, places: Sequence[int]) -> SetFrames:
        """Return the images at some places."""
        return SetFrames(self.synthetic, [self.indices[place] for place in places])
