"""All tissues of one patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lap_monai.data.phantom.materials import Material, make_material
from lap_monai.data.phantom.palette import RGB, draw_palette


@dataclass(frozen=True)
class Tissue:
    """A kind of tissue, whoever's it is.

    Args:
        pattern: a key of `materials.PATTERNS`: what it looks like in everybody.
        modes: colours that it may have, mixed per patient.
        seconds: colours of its vessels, creases or patches.
    """

    pattern: str
    modes: tuple[RGB, ...]
    seconds: tuple[RGB, ...]


class Tissues:
    """The tissues as one patient has them, each made when it is first seen.

    Args:
        seed: what determines them.
        kinds: name → kind.
        cells: samples along a side of the textures.
    """

    def __init__(self, seed: np.random.SeedSequence, kinds: Mapping[str, Tissue], cells: int) -> None:
        colours, *textures = seed.spawn(1 + len(kinds))
        self._kinds, self._cells = kinds, cells
        self._palette = draw_palette(
            np.random.default_rng(colours),
            {name: kind.modes for name, kind in kinds.items()},
            {name: kind.seconds for name, kind in kinds.items()},
        )
        self._textures = dict(zip(kinds, textures, strict=True))
        self._made: dict[str, Material] = {}

    def __getitem__(self, name: str) -> Material:
        if name not in self._made:
            rng = np.random.default_rng(self._textures[name])
            self._made[name] = make_material(rng, self._kinds[name].pattern, *self._palette[name], self._cells)
        return self._made[name]

    def select(self, names: Iterable[str]) -> dict[str, Material]:
        """The materials of these tissues."""
        return {name: self[name] for name in names}
