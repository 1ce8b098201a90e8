"""Geometry of the report's drawings. Templates turn it into SVG, where all text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

#: Okabe and Ito's colours, told apart by most colour-blind readers; the last is for what is left over.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b9a800", "#888888")

Point = tuple[float, float]


@dataclass(frozen=True)
class Embedding:
    """Vectors of one scale and what each belongs to, for the embedding plot."""

    points: NDArray[Any]  #: `(N, D)`
    groups: Sequence[str]  #: N names


@dataclass(frozen=True)
class Plot:
    """A drawing area: outer size and margins, in SVG units."""

    width: float = 320
    height: float = 150
    left: float = 40
    right: float = 12
    top: float = 10
    bottom: float = 22

    def place(self, x: float, y: float) -> Point:
        """Map fractions of the inner area, y upwards, to SVG coordinates."""
        across = self.left + x * (self.width - self.left - self.right)
        down = self.top + (1 - y) * (self.height - self.top - self.bottom)
        return round(across, 2), round(down, 2)


def line_chart(name: str, epochs: Sequence[float], values: Sequence[float | None], plot: Plot | None = None) -> dict:
    """Lay out one curve.

    Args:
        name: what is drawn.
        epochs: N positions.
        values: N values; None and NaN leave a gap.
        plot: the drawing area.

    Returns:
        A dict with the plot's `width` and `height`, `lines` (SVG `points` of each unbroken stretch), `ticks`, and the
        last, lowest and highest value; `lines` is empty if there is no value.
    """
    plot = plot or Plot()
    y = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    x = np.asarray(epochs, dtype=np.float64)
    known = np.isfinite(y)
    chart: dict[str, Any] = {"name": name, "plot": plot, "lines": [], "dots": [], "x_ticks": [], "y_ticks": []}
    if not known.any():
        return chart
    ticks = MaxNLocator(nbins=3, min_n_ticks=2).tick_values(*_widened(y[known].min(), y[known].max()))
    low, high = float(ticks[0]), float(ticks[-1])
    x_low, x_high = _widened(x.min(), x.max())
    spots = [plot.place((a - x_low) / (x_high - x_low), (b - low) / (high - low)) for a, b in zip(x, y, strict=True)]
    for stretch in np.split(np.arange(len(y)), np.flatnonzero(np.diff(known)) + 1):
        if known[stretch[0]]:
            chart["lines"].append(" ".join(f"{spots[i][0]},{spots[i][1]}" for i in stretch))
            chart["dots"] += [spots[i] for i in stretch] if len(stretch) == 1 else []
    chart["end"] = spots[np.flatnonzero(known)[-1]]
    chart["last"] = float(y[known][-1])
    chart["y_ticks"] = [(plot.place(0, (t - low) / (high - low))[1], f"{t:.4g}") for t in ticks]
    ends = sorted({float(x.min()), float(x.max())})
    chart["x_ticks"] = [(plot.place((t - x_low) / (x_high - x_low), 0)[0], f"{t:g}") for t in ends]
    return chart


def best_epoch(epochs: Sequence[int], values: Sequence[float | None]) -> tuple[int, float] | None:
    """Return the epoch of the largest value, and the value; None if there is none."""
    pairs = [(value, -epoch) for epoch, value in zip(epochs, values, strict=True) if value is not None]
    return (-max(pairs)[1], max(pairs)[0]) if pairs else None


def scatter(name: str, embedding: Embedding, limit: int = 600, seed: int = 0) -> dict:
    """Lay out the first two principal components of an embedding, coloured by group.

    At most `limit` points are drawn, evenly chosen; the components come from all. Beyond the palette's seven most
    frequent groups, all others share one colour.

    Returns:
        A dict with `dots` (x, y, group index), `legend` (name, colour, count) and `explained`, the two components'
        shares of the variance.
    """
    plot = Plot(width=320, height=300, left=10, right=10, top=10, bottom=10)
    points, explained = principal_components(embedding.points)
    names, index = _grouped(embedding.groups)
    counts = np.bincount(index, minlength=len(names))
    low, high = points.min(0), points.max(0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    shown = np.random.default_rng(seed).permutation(len(points))[:limit]
    return {
        "name": name,
        "plot": plot,
        "dots": [(*plot.place(*scaled[i]), int(index[i])) for i in shown],
        "legend": [(group, PALETTE[k], int(counts[k])) for k, group in enumerate(names)],
        "explained": explained,
        "count": len(points),
    }


def principal_components(points: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Project `(N, D)` vectors on their first two principal components.

    Returns:
        `(N, 2)` coordinates, zero in a direction that does not exist, and the two shares of the total variance.
    """
    centred = np.asarray(points, dtype=np.float64)
    centred = centred - centred.mean(0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    flat = np.zeros((len(centred), 2))
    flat[:, : min(2, len(lengths))] = left[:, :2] * lengths[:2]
    variance = np.append(lengths**2, [0.0, 0.0])
    total = variance.sum() or 1.0
    return flat, (float(variance[0] / total), float(variance[1] / total))


def heat_map(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> dict:
    """Lay out a confusion matrix with each row (true class) divided by its sum; rows without truth have no shares."""
    counts = np.asarray(confusion, dtype=np.float64)
    totals = counts.sum(1)
    rows = []
    for i, name in enumerate(classes):
        shares = (counts[i] / totals[i]).tolist() if totals[i] else None
        rows.append({"name": name, "shares": shares, "pixels": int(totals[i])})
    return {"rows": rows, "classes": list(classes), "label_length": min(24, max(len(name) for name in classes))}


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, list[dict]]:
    """Lay out the columns of a training history: `terms` (loss and its parts), `scores` and `class_scores`."""
    columns = dict.fromkeys(name for row in history for name in row if name not in ("epoch", "seconds", "lr"))
    groups: dict[str, list[dict]] = {"terms": [], "scores": [], "class_scores": []}
    for name in columns:
        measured = [row for row in history if name in row]  # a validation may come only every few epochs
        epochs, values = [row["epoch"] for row in measured], [row[name] for row in measured]
        prefix, _, label_class = name.partition("/")
        chart = line_chart(label_class or name, epochs, values)
        chart["best"] = best_epoch(epochs, values)
        group = "class_scores" if label_class else "scores" if prefix.startswith("val_") else "terms"
        groups[group].append(chart)
    return groups


def _grouped(groups: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    names, counts = np.unique(np.asarray(groups, dtype=str), return_counts=True)
    ordered = [str(name) for name in names[np.argsort(-counts, kind="stable")]]
    kept = ordered if len(ordered) <= len(PALETTE) else [*ordered[: len(PALETTE) - 1], "others"]
    place = {name: min(k, len(kept) - 1) for k, name in enumerate(ordered)}
    return kept, np.array([place[str(name)] for name in groups])


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range of more than zero length around equal limits."""
    if high > low:
        return float(low), float(high)
    pad = abs(low) * 0.05 or 0.5
    return float(low) - pad, float(high) + pad
