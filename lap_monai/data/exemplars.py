"""Frames that a method with a memory of real images keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lap_monai.checks import UserError
from lap_monai.data.layout import Row, row_id
from lap_monai.data.ordering import drawn_order
from lap_monai.files import read_json, write_json
from lap_monai.keys import LABEL

__all__ = ["draw_exemplars", "read_exemplars", "write_exemplars"]


def draw_exemplars(
    rows: Sequence[Row], class_vectors: np.ndarray, kept: Sequence[Row], count: int, seed: int = 0
) -> list[Row]:
    """Choose `count` frames in all from a step's frames and those that were kept before.

    Classes take turns, the rarest first, each with the next of its frames in a random order that depends on names and
    seed alone. So the share of old frames shrinks from step to step, and no class is left out as long as there is room.

    Args:
        rows: the step's frames with masks.
        class_vectors: `(N, K)`, 1 where a class of the step's channels is in the frame (`StepDataset.class_vectors`);
            the background is not looked at.
        kept: what the steps before kept; such a row names its classes under `exemplar_of`.
        count: frames to keep; all if there are fewer.
        seed: of the order.

    Returns:
        Rows with `exemplar_of`, the channels that they show.
    """
    if count < 0:
        raise UserError(f"exemplars={count}: give the number of frames to keep, 0 or more.")
    fresh = [
        {**row, "exemplar_of": np.flatnonzero(vector[1:] == 1).tolist()}
        for row, vector in zip(rows, class_vectors, strict=True)
        if row[LABEL] is not None
    ]
    pool = {row_id(row): row for row in (*kept, *fresh)}
    order = drawn_order(sorted(pool), seed)
    queues = {
        channel: [name for name in order if channel in pool[name]["exemplar_of"]]
        for channel in sorted({channel for row in pool.values() for channel in row["exemplar_of"]})
    }
    turns = sorted(queues, key=lambda channel: (len(queues[channel]), channel))
    chosen: dict[str, Row] = {}
    while len(chosen) < min(count, len(pool)) and any(queues.values()):
        for channel in turns:
            queue = [name for name in queues[channel] if name not in chosen]
            queues[channel] = queue[1:]
            if queue and len(chosen) < count:
                chosen[queue[0]] = pool[queue[0]]
    return list(chosen.values())


def write_exemplars(path: str | Path, rows: Sequence[Row]) -> Path:
    """Write the rows of kept frames as JSON, whole or not at all."""
    return write_json(path, list(rows))


def read_exemplars(path: str | Path | None) -> list[Row]:
    """Return the rows that `write_exemplars` wrote; none for None.

    Raises:
        UserError: if the file is missing or no list of rows.
    """
    if path is None:
        return []
    try:
        rows = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"exemplars {str(path)!r} cannot be read ({error}); give the file of the step before."
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "exemplar_of" in row for row in rows):
        raise UserError(f"exemplars {str(path)!r} is no list of kept frames; give the file of the step before.")
    return rows
