"""Which masks a method may use."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lap_monai.checks import UserError
from lap_monai.data.layout import Row, row_id


def fingerprint(rows: Sequence[Row]) -> str:
    """Return a hash of which frames the rows are, whatever their order and wherever the files lie."""
    return hashlib.sha256("\n".join(sorted(row_id(row) for row in rows)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Budget:
    """The frames whose masks may be used, and the draw that chose them.

    Args:
        fraction: share of the units that was asked for.
        unit: what was drawn: `"frame"`, `"clip"` or `"video"`.
        subset: which of the draws.
        fingerprint: of the masked rows that were drawn from.
        total: how many masked rows were drawn from.
        ids: `row_id` of each row drawn.
    """

    fraction: float
    unit: str
    subset: int
    fingerprint: str
    total: int
    ids: tuple[str, ...]

    def select(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of the budget, in their order among `rows`.

        Raises:
            UserError: if the masked rows are not the ones that the budget was drawn from.
        """
        masked = masked_rows(rows)
        if fingerprint(masked) != self.fingerprint:
            raise UserError(
                f"the budget was drawn from {self.total} masked frames with fingerprint {self.fingerprint}, these are "
                f"{len(masked)} with {fingerprint(masked)}; use it with its own data set and split, or draw a new one."
            )
        ids = set(self.ids)
        return [row for row in masked if row_id(row) in ids]

    def to_json(self) -> dict[str, Any]:
        """Return what a budget file holds."""
        return asdict(self)


def masked_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have a mask."""
    return [row for row in rows if row["label"] is not None]
