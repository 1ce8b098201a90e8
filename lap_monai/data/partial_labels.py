"""What the labels of a datalist row say of each class, and label maps that say no more than that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lap_monai.data.finding import Finding
from lap_monai.data.layout import Row
from lap_monai.keys import IMAGE, KNOWLEDGE, LABEL
from lap_monai.task_stream import Knowledge, complete_knowledge

__all__ = ["hide_classes", "limit_knowledge", "row_knowledge", "weak_label_contradictions"]


def row_knowledge(row: Row, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return what a row's labels say of each class, `uint8 (C,)`; see `Knowledge`.

    Args:
        row: a datalist row. Its `knowledge` decides where it has one, as the rows of a stream do. Otherwise, of a row
            with `annotated` these classes were drawn, and of the others `presence` may say that they are not there; of
            any other row with a mask all classes were drawn; of one without a mask nothing is known but `presence`.
        classes: of the label space, the background first.
    """
    if KNOWLEDGE in row:
        return np.array(row[KNOWLEDGE], dtype=np.uint8)
    drawn = () if row[LABEL] is None else row.get("annotated", classes)
    presence = row.get("presence", {})
    vector = [
        Knowledge.MASK if name in drawn else Knowledge.UNKNOWN if presence.get(name, True) else Knowledge.ABSENT
        for name in classes
    ]
    return complete_knowledge(vector)


def limit_knowledge(
    knowledge: NDArray[np.uint8], classes: Sequence[str], drawn: Iterable[str], weak_labels: bool
) -> NDArray[np.uint8]:
    """Return what is known if only some classes had been drawn.

    Args:
        knowledge: of all classes, `(C,)`.
        classes: their names.
        drawn: classes whose masks stay; those of the others are forgotten, also where they are empty.
        weak_labels: whether image-level labels (`ABSENT`) stay.
    """
    kept = np.isin(np.asarray(classes), list(drawn))
    forgotten = (knowledge == Knowledge.MASK) & ~kept | (knowledge == Knowledge.ABSENT) & (not weak_labels)
    return complete_knowledge(np.where(forgotten, Knowledge.UNKNOWN, knowledge))


def hide_classes(label: NDArray[np.uint8], knowledge: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a label map (class ids, any shape) in which the classes that are no `MASK` have become 0."""
    table = np.arange(256, dtype=np.uint8)
    table[: len(knowledge)][knowledge != Knowledge.MASK] = 0
    return table[label]


def weak_label_contradictions(
    rows: Sequence[Row], pixels: NDArray[np.int64], classes: Sequence[str], root: str
) -> list[Finding]:
    """Find masks that weak labels contradict.

    Args:
        rows: datalist rows; those without `presence` say nothing.
        pixels: pixels of each class in each row, `(N, C)`.
        classes: of the label space.
        root: the data set's folder, which findings name files in.

    Returns:
        An error for each class that a frame's mask shows and its weak label denies; a warning for each that was looked
        for and not found, although the weak label says that it is there.
    """
    findings = []
    places = {name: i for i, name in enumerate(classes)}
    for row, counts in zip(rows, pixels, strict=True):
        where = os.path.relpath(row[IMAGE], root)
        for name, present in row.get("presence", {}).items():
            if name not in places:  # a class that the label space merges or drops
                continue
            count = int(counts[places[name]])
            if count and not present:
                message = f"weak labels say that there is no {name}, its mask has {count:,} px; correct one of them"
                findings.append(Finding("error", "contradicting weak label", where, message))
            elif present and not count and name in row["annotated"]:
                message = f"weak labels say that there is {name}, its mask is empty"
                findings.append(Finding("warning", "weak label without mask", where, message))
    return findings
