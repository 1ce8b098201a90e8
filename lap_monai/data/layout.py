"""What the package knows about a folder layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lap_monai import keys
from lap_monai.data.finding import Finding

#: A datalist row: `image`, `label`, `video`, `clip`, `frame`, `phase` and, where the layout has one, `split`.
#: `label` is what `read_label` takes, or None. Where the frames of a video are not numbered through, `id` names the
#: frame. Rows of a layout whose frames are annotated in part also say what is annotated (`row_knowledge`).
Row = dict[str, Any]


def row_id(row: Row) -> str:
    """Return the name of a row's frame, unique in its data set and the same on every machine."""
    return str(row.get("id") or f"{row[keys.VIDEO]}_{row[keys.FRAME]}")


@dataclass(frozen=True)
class Layout:
    """A folder layout: how to recognise it and how to make datalist rows of it. Nothing else knows a layout.

    Args:
        name: what the command line and configs call it.
        expected: the files it consists of, in words, for error messages.
        label_space: name of the label space that holds all its classes.
        matches: whether a folder is the root of such a data set (cheap; looks at names only).
        scan: root and phase folder (or None) → rows in order, and what is wrong with the set of files. A frame without
            its mask is a row whose `label` is None, and a finding.
    """

    name: str
    expected: str
    label_space: str
    matches: Callable[[Path], bool]
    scan: Callable[[Path, Path | None], tuple[list[Row], list[Finding]]]
