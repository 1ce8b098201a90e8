"""What a table declares: methods, budgets, repetitions. Reading it runs nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: What tells the cells of one row apart. `split` is which of the table's splits, for cross-validation.
AXES = ("budget", "subset", "seed", "split")

#: Published class → (value, spread or None).
Published = Mapping[str, tuple[float, float | None]]


@dataclass(frozen=True)
class Stage:
    """One training run of a row; its files may feed the next.

    Args:
        name: the stage's folder.
        overlays: configs laid over the table's.
        settings: overrides, config id → value.
        uses: config id → file of an earlier stage, as `"STAGE/FILE"`.
        per: the axes that this stage depends on. Cells that differ in the others only share the run.
    """

    name: str
    overlays: tuple[Path, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    uses: Mapping[str, str] = field(default_factory=dict)
    per: tuple[str, ...] = AXES


@dataclass(frozen=True)
class Row:
    """A method: its name in files and results, what people call it, and its stages, the last of which is evaluated."""

    name: str
    label: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Coordinates:
    """Which repetition of a row: the share of masks, the draw of them, the seed, the split."""

    budget: float
    subset: int
    seed: int
    split: str | None = None

    @property
    def name(self) -> str:
        """The cell's folder, `<budget>_<subset>_<seed>`, with the split where the table has several."""
        parts = [f"{self.budget:g}", str(self.subset), str(self.seed)]
        return "_".join(parts if self.split is None else [*parts, Path(self.split).stem])

    def only(self, axes: Sequence[str]) -> dict[str, Any]:
        """Return the coordinates on some of the axes."""
        return {axis: getattr(self, axis) for axis in AXES if axis in axes}


@dataclass(frozen=True)
class Table:
    """Rows times budgets times subsets times seeds (times splits).

    Args:
        name: of the table.
        description: what it is for.
        bundle: the bundle's folder.
        configs: base config and overlays of every run.
        evaluate: overlays of the evaluation.
        settings: overrides of every run, config id → value.
        rows: the methods.
        budgets: shares of the units whose masks are seen.
        unit: what a budget draws: frame, clip or video.
        subsets: which draws.
        seeds: of the trainings.
        splits: splits to repeat everything on; empty for the one that the configs name.
        reference: row that the others are compared with first.
        expected_time: in words.
        published_source: where published values come from.
        published: row → budget → class → (value, spread or None).
        content: the file as read.
    """

    name: str
    description: str
    bundle: Path
    configs: tuple[Path, ...]
    evaluate: tuple[Path, ...]
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    budgets: tuple[float, ...]
    unit: str
    subsets: tuple[int, ...]
    seeds: tuple[int, ...]
    splits: tuple[str, ...]
    reference: str
    expected_time: str
    published_source: str
    published: Mapping[str, Mapping[float, Published]]
    content: Mapping[str, Any]

    def coordinates(self) -> list[Coordinates]:
        """Return those of every cell of a row: first subset, seed and split of all budgets first, so that a table
        that is interrupted has compared all methods before it repeats one."""
        repeats = itertools.product(self.subsets, self.seeds, self.splits or (None,))
        return [Coordinates(budget, *repeat) for repeat in repeats for budget in self.budgets]
