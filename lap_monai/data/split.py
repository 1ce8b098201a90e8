"""A division of a data set by patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lap_monai.checks import UserError

#: The parts of a split, in the order of use.
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Which videos (patients) train, which validate and which test.

    Args:
        name: what results call it.
        origin: where it comes from: a publication, or how it was drawn.
        train: videos to learn from.
        val: videos to choose the model by.
        test: videos to report on; may be empty.

    Raises:
        UserError: if a video is in two parts or twice in one.
    """

    name: str
    origin: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = Counter(video for part in PARTS for video in self.videos(part))
        repeated = [video for video, count in counts.items() if count > 1]
        if repeated:
            raise UserError(f"split {self.name!r}: video {', '.join(repeated)} occurs twice; parts must be disjoint.")

    def videos(self, part: str) -> tuple[str, ...]:
        """Return the videos of `"train"`, `"val"` or `"test"`."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]

    def part_of(self, video: str) -> str | None:
        """Return the part that a video is in, or None."""
        return next((part for part in PARTS if video in self.videos(part)), None)

    def absent(self, videos: Iterable[str]) -> dict[str, list[str]]:
        """Return, for each part, its videos that are not among those at hand."""
        at_hand = set(videos)
        return {part: [video for video in self.videos(part) if video not in at_hand] for part in PARTS}

    def to_json(self) -> dict[str, Any]:
        """Return what a split file holds."""
        return {"name": self.name, "origin": self.origin, **{part: list(self.videos(part)) for part in PARTS}}
