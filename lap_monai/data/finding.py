"""A defect found in a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One defect: what kind, where, and whether a training survives it.

    Args:
        severity: `"error"` if a training breaks or its result is wrong, `"warning"` if it goes on as it should.
        kind: short class of defect, the same for all of its kind, for example `"missing mask"`.
        where: file (relative to the data set's root), video or split that is meant.
        message: what is wrong and, where there is one, the remedy; without `where`.
    """

    severity: Severity
    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"
