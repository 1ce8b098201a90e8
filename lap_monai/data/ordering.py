"""Orders of names: one for people, one for drawing lots."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which numbers inside names count as numbers: video2 before video10."""
    parts = [part for part in re.split(r"([0-9]+)", name) if part]
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def drawn_order(names: Iterable[str], *salt: object) -> list[str]:
    """Return the distinct names in an order that looks random and depends on names and salt alone.

    The order is that of SHA-256 hashes, so it is the same with every NumPy, platform and order of input, and names that
    join or leave do not reorder the others.

    >>> drawn_order(["a", "b", "c"], 1) == drawn_order(["c", "b", "a", "a"], 1)
    True
    """
    prefix = ":".join(str(part) for part in salt)
    return sorted(set(names), key=lambda name: hashlib.sha256(f"{prefix}:{name}".encode()).digest())
