"""Geometry of drawings that compare methods: scores over budgets or steps, and differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from lap_monai.reports.charts import PALETTE, Plot

#: One point of a curve: budget or step, value, lower and upper end of its whisker (None for no whisker).
CurvePoint = tuple[float, float, float | None, float | None]


def budget_chart(name: str, curves: Mapping[str, Sequence[CurvePoint]], plot: Plot | None = None) -> dict[str, Any]:
    """Lay out one curve a method over the budgets, on a logarithmic axis; see `curve_chart`."""
    return curve_chart(name, curves, _log_places, lambda budget: f"{100 * budget:g} %", plot)


def step_chart(name: str, curves: Mapping[str, Sequence[CurvePoint]], plot: Plot | None = None) -> dict[str, Any]:
    """Lay out one curve a method over the steps of a stream; see `curve_chart`."""
    return curve_chart(name, curves, _even_places, lambda step: f"step {step:g}", plot)


def curve_chart(
    name: str,
    curves: Mapping[str, Sequence[CurvePoint]],
    places: Callable[[Sequence[float]], list[float]],
    tick: Callable[[float], str],
    plot: Plot | None = None,
) -> dict[str, Any]:
    """Lay out one curve a method, each a little beside the others.

    Args:
        name: what is drawn.
        curves: method → points from left to right.
        places: all positions, rising → how far across the plot they are, from 0 to 1.
        tick: position → its label.
        plot: the drawing area.

    Returns:
        A dict with `plot`, `curves` (label, colour, `line`, `dots`, `whiskers`), `x_ticks` and `y_ticks`; `curves` is
        empty if no method has a point.
    """
    plot = plot or Plot(width=560, height=300, left=46, right=16, bottom=26)
    points = [point for curve in curves.values() for point in curve]
    chart: dict[str, Any] = {"name": name, "plot": plot, "curves": [], "x_ticks": [], "y_ticks": []}
    if not points:
        return chart
    y_ticks = _ticks([end for point in points for end in point[1:] if end is not None])
    low, high = y_ticks[0], y_ticks[-1]
    positions = sorted({point[0] for point in points})
    across = dict(zip(positions, places(positions), strict=True))
    shift = np.linspace(-0.018, 0.018, len(curves)) if len(curves) > 1 else [0.0]

    def place(x: float, y: float) -> tuple[float, float]:
        return plot.place(x, (y - low) / (high - low))

    for (label, curve), aside, colour in zip(curves.items(), shift, colours(len(curves)), strict=True):
        spots = [place(across[at] + aside, value) for at, value, _, _ in curve]
        whiskers = [
            (place(across[at] + aside, lower), place(across[at] + aside, upper))
            for at, _, lower, upper in curve
            if lower is not None and upper is not None
        ]
        line = " ".join(f"{x},{y}" for x, y in spots)
        chart["curves"].append({"label": label, "colour": colour, "line": line, "dots": spots, "whiskers": whiskers})
    chart["x_ticks"] = [(plot.place(across[at], 0)[0], tick(at)) for at in positions]
    chart["y_ticks"] = [(place(0, value)[1], f"{value:.4g}") for value in y_ticks]
    return chart


def difference_chart(
    differences: Sequence[tuple[str, float, Sequence[float] | None, str]], row_height: float = 30
) -> dict[str, Any]:
    """Lay out differences one below the other, around a line at 0.

    Args:
        differences: label, difference, its interval or None, verdict.
        row_height: in SVG units.

    Returns:
        A dict with `plot`, the place of `zero`, `rows` (label, y, dot, whisker or None, verdict) and `x_ticks`.
    """
    plot = Plot(width=640, height=row_height * len(differences) + 34, left=190, right=96, top=6, bottom=26)
    ends = [0.0] + [value for _, difference, pair, _ in differences for value in (difference, *(pair or ()))]
    ticks = _ticks(ends)
    low, high = ticks[0], ticks[-1]

    def across(value: float) -> float:
        return plot.place((value - low) / (high - low), 0)[0]

    rows = [
        {
            "label": label,
            "y": round(plot.top + row_height * (place + 0.5), 2),
            "dot": across(difference),
            "whisker": [across(end) for end in pair] if pair else None,
            "verdict": verdict,
        }
        for place, (label, difference, pair, verdict) in enumerate(differences)
    ]
    return {
        "plot": plot,
        "zero": across(0),
        "rows": rows,
        "x_ticks": [(across(tick), f"{tick:+.3g}") for tick in ticks],
    }


def colours(count: int) -> list[str]:
    """Return a colour for each of `count` methods; they repeat beyond the palette."""
    return [PALETTE[place % len(PALETTE)] for place in range(count)]


def _ticks(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    pad = 0.0 if high > low else abs(low) * 0.05 or 0.05
    return [float(tick) for tick in MaxNLocator(nbins=5, min_n_ticks=2).tick_values(low - pad, high + pad)]


def _log_places(budgets: Sequence[float]) -> list[float]:
    """Places of rising budgets within 0.06 and 0.94 of the axis."""
    if len(budgets) == 1:
        return [0.5]
    logs = [math.log(budget) for budget in budgets]
    return [0.06 + 0.88 * (value - logs[0]) / (logs[-1] - logs[0]) for value in logs]


def _even_places(positions: Sequence[float]) -> list[float]:
    """Places of rising positions within 0.06 and 0.94 of the axis."""
    if len(positions) == 1:
        return [0.5]
    width = positions[-1] - positions[0]
    return [0.06 + 0.88 * (position - positions[0]) / width for position in positions]
