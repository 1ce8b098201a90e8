"""Drawing, writing and reading label budgets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lap_monai import keys
from lap_monai.checks import UserError, require_choice
from lap_monai.data.budget import Budget, fingerprint, masked_rows
from lap_monai.data.layout import Row, row_id
from lap_monai.data.ordering import drawn_order
from lap_monai.files import read_json, write_json
from lap_monai.label_space import LabelSpace

#: What can be drawn.
UNITS = ("frame", "clip", "video")


def plan_budget(rows: Sequence[Row], fraction: float, unit: str = "frame", subset: int = 0) -> Budget:
    """Choose the frames whose masks may be used.

    Units come in an order that depends on their names and `subset` only, and a budget is the start of that order. So
    the budgets of one subset are nested (1 % within 5 % within 10 %), and different subsets are independent draws.

    Args:
        rows: datalist rows of the training part; those without a mask are never drawn.
        fraction: share of the units, in (0, 1]; at least one unit is drawn.
        unit: draw frames, whole clips or whole videos. Frames of a clip are near-duplicates, so equal numbers of frames
            teach more when drawn one by one; whole clips or videos are what an annotator would be given.
        subset: which of the draws.

    Raises:
        UserError: if the fraction is out of range, the unit unknown, or no row has a mask.
    """
    require_choice(unit, UNITS, "budget unit")
    if not 0 < fraction <= 1:
        raise UserError(f"budget fraction {fraction} must be above 0 and at most 1 (0.05 for 5 %).")
    masked = masked_rows(rows)
    if not masked:
        raise UserError("no row has a mask, so no budget can be drawn; check dataset_dir.")
    order = drawn_order((_unit_of(row, unit) for row in masked), "budget", unit, subset)
    # Rounded half up: 0.5 % of 100 units is 1 unit on every platform.
    chosen = set(order[: max(1, math.floor(fraction * len(order) + 0.5))])
    ids = tuple(row_id(row) for row in masked if _unit_of(row, unit) in chosen)
    return Budget(float(fraction), unit, int(subset), fingerprint(masked), len(masked), ids)


def draw_budget(
    rows: Sequence[Row],
    fraction: float,
    unit: str = "frame",
    subset: int = 0,
    record: str | Path | None = None,
    label_space: LabelSpace | None = None,
    histograms: NDArray[np.int64] | None = None,
) -> list[Row]:
    """Return the rows whose masks may be used; `plan_budget` explains the first four arguments.

    Args:
        record: file to write the budget to.
        label_space: with `histograms`, the space whose classes should all occur.
        histograms: raw-value pixel counts of each of the `rows`, `(N, 256)`.

    Warns:
        UserWarning: naming the classes that have no pixel in any of the `rows`, and those that have some there but none
            in the budget.
    """
    budget = plan_budget(rows, fraction, unit, subset)
    if record is not None:
        write_budget(record, budget)
    if label_space is not None and histograms is not None:
        pixels = label_space.count_pixels(histograms).sum(axis=0)
        absent = [name for name, count in zip(label_space.classes, pixels, strict=True) if not count]
        if absent:
            warnings.warn(f"no training frame shows {', '.join(absent)}; nothing can learn them here", stacklevel=2)
        lost = lost_classes(budget, rows, label_space, histograms)
        if lost:
            share = f"{fraction:.3g} of the {unit}s, subset {subset}"
            warnings.warn(f"the budget ({share}) holds no pixel of {', '.join(lost)}", stacklevel=2)
    return budget.select(rows)


def lost_classes(
    budget: Budget, rows: Sequence[Row], label_space: LabelSpace, histograms: NDArray[np.int64]
) -> list[str]:
    """Return the classes that occur in the rows `(N)`, by their histograms `(N, 256)`, but not in the budget."""
    ids = set(budget.ids)
    inside = np.array([row_id(row) in ids for row in rows], dtype=bool)
    pixels = label_space.count_pixels(histograms)
    lost = (pixels.sum(0) > 0) & (pixels[inside].sum(0) == 0)
    return [name for name, is_lost in zip(label_space.classes, lost, strict=True) if is_lost]


def write_budget(path: str | Path, budget: Budget) -> Path:
    """Write a budget file, whole or not at all, and return its path."""
    return write_json(path, budget.to_json())


def load_budget(path: str | Path) -> Budget:
    """Read a budget file; `Budget.select` gives its rows.

    Raises:
        UserError: if the file is missing or is no budget.
    """
    try:
        content = read_json(path)
        return Budget(**{**content, "ids": tuple(content["ids"])})
    except FileNotFoundError:
        raise UserError(f"budget file {str(path)!r} does not exist.") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{str(path)!r} is no budget file: {error}.") from None


def _unit_of(row: Row, unit: str) -> str:
    return row_id(row) if unit == "frame" else str(row[{"clip": keys.CLIP, "video": keys.VIDEO}[unit]])
