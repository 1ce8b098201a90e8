"""Tables of which structures a frame shows: DSAD's `weak_labels.csv`, by the names of its columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lap_monai.data.finding import Finding

#: The file's name.
WEAK_LABELS = "weak_labels.csv"

_SAID = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_FRAME = re.compile(r"(?:image)?(\d+)(?:\.png)?", re.IGNORECASE)

Presence = dict[str, bool]


def read_weak_labels(
    path: Path, images: Mapping[int, Path], organs: Sequence[str], root: Path
) -> tuple[dict[int, Presence], list[Finding]]:
    """Read which organs each frame of a folder shows.

    Columns are found by name, whatever their order, letter case and number: DSAD's tables know a twelfth structure. The
    first column that is no organ's and names frames (`image05`, `image05.png` or `5`) says which frame a line is about;
    without one the lines are the frames in their order.

    Args:
        path: the table, which may be missing.
        images: frame number → file, of the frames in the folder.
        organs: the classes that are wanted.
        root: the data set's folder, which findings name files in.

    Returns:
        Frame number → organ → whether it is there, and what is wrong with the table. A damaged table says nothing, and
        is an error.
    """
    if not path.is_file():
        return {}, []
    where = str(path.relative_to(root))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = [line for line in csv.reader(file) if line]
    except (ValueError, csv.Error) as error:  # no line, no UTF-8, or no CSV
        return {}, [_damaged(where, f"is no table with a line a frame ({error})")]
    names = [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in header]
    columns = {organ: names.index(organ) for organ in organs if organ in names}
    if twice := [organ for organ in columns if names.count(organ) > 1]:
        return {}, [_damaged(where, f"has two columns {twice[0]}")]
    if short := [number for number, line in enumerate(lines, 2) if len(line) != len(header)]:
        return {}, [_damaged(where, f"line {short[0]} has not {len(header)} fields as the header has")]
    frames = _frames(lines, [i for i in range(len(names)) if i not in columns.values()], images)
    if frames is None:
        return {}, [_damaged(where, f"has {len(lines)} lines that name no frames, for {len(images)} frames")]
    return _presence(frames, lines, columns, where) if columns else ({}, [_damaged(where, "has no column of an organ")])


def _frames(lines: Sequence[Sequence[str]], columns: Iterable[int], images: Mapping[int, Path]) -> list[int] | None:
    """The frame of each line, or None if nothing tells."""
    for column in columns:
        if column and all(line[column].strip() in _SAID for line in lines):  # another structure, in two frames
            continue
        found = [_FRAME.fullmatch(line[column].strip()) for line in lines]
        numbers = [int(match[1]) for match in found if match]
        if len(numbers) == len(lines) and set(images) <= set(numbers) and len(set(numbers)) == len(numbers):
            return numbers
    return sorted(images) if len(lines) == len(images) else None


def _presence(
    frames: Sequence[int], lines: Sequence[Sequence[str]], columns: Mapping[str, int], where: str
) -> tuple[dict[int, Presence], list[Finding]]:
    presence: dict[int, Presence] = {}
    for number, (frame, line) in enumerate(zip(frames, lines, strict=True), 2):
        presence[frame] = {}
        for organ, column in columns.items():
            said = line[column].strip().lower()
            if said not in _SAID:
                return {}, [_damaged(where, f"line {number}, {organ}: {line[column]!r} is neither 0 nor 1")]
            presence[frame][organ] = _SAID[said]
    return presence, []


def _damaged(where: str, message: str) -> Finding:
    return Finding("error", "damaged weak labels", where, f"{message}; restore or delete the file")
