"""Damaged and hostile versions of what is sound: bytes that changed, JSON values in the wrong place."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

#: Values that mean trouble to whoever did not expect them.
ODD_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([10**30, -(10**18), float("nan"), float("inf"), 1e-300, 0.5]),
    st.text(max_size=12),
    st.sampled_from(["", ".", "..", "../x", "/etc/passwd", "@a", "$1", "%x", "a\0b", "²", "nul\ud800"[:3], "x" * 5000]),
)
ODD = st.recursive(
    ODD_SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """A nested value of dicts and lists in which one to three places hold something else, are gone, or are new."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(changed))
        if not places:
            return draw(ODD)
        holder, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(["replace", "replace", "drop", "add"]))
        if how == "replace":
            holder[key] = draw(ODD)
        elif how == "drop":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = draw(ODD)
        else:
            holder.insert(key, draw(ODD))
    return changed


def _places(value: Any) -> Any:
    entries = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, entry in entries:
        yield value, key
        yield from _places(entry)


@st.composite
def damaged(draw: st.DrawFn, content: bytes, head: int = 512) -> bytes:
    """Bytes of which some changed, mostly near the beginning, where headers are, or which are cut off or go on."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        near = draw(st.booleans())
        place = draw(st.integers(0, max(0, min(head if near else len(changed), len(changed)) - 1)))
        patch = draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff"]))
        )
        changed[place : place + len(patch)] = patch
    if draw(st.integers(0, 3)) == 0:
        del changed[draw(st.integers(0, len(changed))) :]
    return bytes(changed)
