"""Frames worth looking at: the best, the middling and the worst of an evaluation, without keeping them all."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Example:
    """One evaluated frame."""

    name: str
    video: str
    score: float  #: mean IoU over the classes that its truth or prediction contains
    image: Pixels  #: `(H, W, 3)`
    truth: Pixels  #: class ids `(H, W)`, 255 = ignore
    prediction: Pixels  #: class ids `(H, W)`


@dataclass
class ExampleKeeper:
    """Keep the `count` best and worst frames seen, and an evenly spread sample from which the middling ones are taken.

    Memory holds at most `2 * count + 2 * sample` frames however many are added.
    """

    count: int = 3
    sample: int = 16
    _scores: list[float] = field(default_factory=list)
    _best: list[Example] = field(default_factory=list)
    _worst: list[Example] = field(default_factory=list)
    _spread: list[Example] = field(default_factory=list)
    _stride: int = 1

    def add(self, example: Example) -> None:
        """Look at a frame; one without a score (nothing labelled) is passed over."""
        if np.isnan(example.score):
            return
        self._best = sorted([*self._best, example], key=lambda kept: -kept.score)[: self.count]
        self._worst = sorted([*self._worst, example], key=lambda kept: kept.score)[: self.count]
        if len(self._scores) % self._stride == 0:
            self._spread.append(example)
        if len(self._spread) == 2 * self.sample:
            self._spread, self._stride = self._spread[::2], 2 * self._stride
        self._scores.append(example.score)

    def chosen(self) -> dict[str, list[Example]]:
        """Return `{"best", "median", "worst"}`, each frame at most once; the worst come last and lowest last."""
        if not self._scores:
            return {"best": [], "median": [], "worst": []}
        taken = {id(kept) for kept in self._best}
        worst = [kept for kept in self._worst if id(kept) not in taken]
        taken |= {id(kept) for kept in worst}
        middle = float(np.median(self._scores))
        rest = [kept for kept in self._spread if id(kept) not in taken]
        rest.sort(key=lambda kept: abs(kept.score - middle))
        return {
            "best": self._best,
            "median": sorted(rest[: self.count], key=lambda kept: -kept.score),
            "worst": worst[::-1],
        }
