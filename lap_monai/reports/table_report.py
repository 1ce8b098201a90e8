"""`report.html` of a table: its methods side by side on one page, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lap_monai.files import write_text
from lap_monai.flatten import flatten
from lap_monai.label_space import LabelSpace
from lap_monai.reports.examples import Pixels
from lap_monai.reports.pictures import is_grey, jpeg_uri, overlay
from lap_monai.reports.report import css_colour, environment
from lap_monai.reports.table_charts import CurvePoint, budget_chart, colours, difference_chart
from lap_monai.reports.table_markdown import SPREADS, cell_name, main_spread, share


@dataclass(frozen=True, eq=False)
class Panel:
    """One frame, its truth, and what each method makes of it."""

    name: str
    caption: str
    image: Pixels  #: `(H, W, 3)`
    truth: Pixels  #: class ids `(H, W)`, 255 = ignore
    predictions: Mapping[str, Pixels]  #: method → class ids `(H, W)`


def write_table_report(
    path: str | Path, results: Mapping[str, Any], label_space: LabelSpace, panels: Sequence[Panel] = ()
) -> Path:
    """Draw what a table's `results.json` holds.

    Args:
        path: the file to write, whole or not at all.
        results: what `results.json` holds.
        label_space: names and colours of the classes.
        panels: frames that every method segmented.

    Returns:
        The path.
    """
    spread = main_spread(results)
    page = (
        environment()
        .get_template("table.html")
        .render(
            results=results,
            labels=results["labels"],
            hues=dict(zip(results["labels"], colours(len(results["labels"])), strict=True)),
            charts=[_pooled_chart(results, spread), _patient_chart(results)],
            spread=spread,
            spread_words=SPREADS[spread] if spread else "one repetition each, so no spread",
            by_class=[_class_bars(results, name, spread) for name in (*results["classes"], None)],
            forests=[_forest(results, budget) for budget in results["budgets"]],
            panels=[_pictures(panel, label_space, results["labels"]) for panel in panels],
            legend=[
                (name, css_colour(colour))
                for name, colour in zip(label_space.classes, label_space.colours, strict=True)
                if not is_grey(colour)
            ],
            percent=share,
            cell_name=cell_name,
            settings=flatten({key: value for key, value in results["config"].items() if key != "published"}),
        )
    )
    return write_text(path, page)


def _pooled_chart(results: Mapping[str, Any], spread: str | None) -> dict[str, Any]:
    curves: dict[str, list[CurvePoint]] = {label: [] for label in results["labels"].values()}
    for entry in results["summary"]:
        mean = entry["miou"]["mean"]
        if mean is not None:
            sd = entry["miou"][spread] if spread else None
            ends = (None, None) if sd is None else (mean - sd, mean + sd)
            curves[results["labels"][entry["method"]]].append((entry["budget"], mean, *ends))
    what = SPREADS[spread] if spread else "no spread"
    return budget_chart(f"Mean IoU, pooled over the set; whiskers: {what}", curves)


def _patient_chart(results: Mapping[str, Any]) -> dict[str, Any]:
    curves: dict[str, list[CurvePoint]] = {label: [] for label in results["labels"].values()}
    reasons = {entry["per_patient"]["reason"] for entry in results["summary"] if entry["n_cells"]} - {None}
    for entry in results["summary"]:
        found = entry["per_patient"]
        if found["miou"] is not None:
            ends = found["interval"] or (None, None)
            curves[results["labels"][entry["method"]]].append((entry["budget"], found["miou"], *ends))
    what = f"no whiskers: {', '.join(sorted(reasons))}" if reasons else "whiskers: 95 % bootstrap over patients"
    return budget_chart(f"Mean IoU, averaged over patients; {what}", curves)


def _class_bars(results: Mapping[str, Any], name: str | None, spread: str | None) -> dict[str, Any]:
    """What the bars of one class show, None standing for the mean of all."""
    bars = []
    for entry in results["summary"]:
        found = entry["miou"] if name is None else entry["iou"][name]
        published = _published(results, entry, name)
        sd = found[spread] if spread else None
        mean = found["mean"]
        whisker = None if sd is None or mean is None else (max(0.0, mean - sd), min(1.0, mean + sd))
        bars.append({**entry, "value": mean, "whisker": whisker, "sd": sd, "published": published})
    return {"name": name or "Mean IoU", "bars": bars}


def _published(results: Mapping[str, Any], entry: Mapping[str, Any], name: str | None) -> float | None:
    for row in results["published"]["rows"]:
        if (row["method"], row["budget"]) == (entry["method"], entry["budget"]):
            values = [value[0] for value in row["iou"].values()]
            if name is not None:
                return row["iou"].get(name, [None])[0]
            return sum(values) / len(values) if len(values) == len(results["classes"]) else None
    return None


def _forest(results: Mapping[str, Any], budget: float) -> dict[str, Any]:
    found = [
        (results["labels"][entry["method"]], entry["difference"], entry["interval"], entry["verdict"])
        for entry in results["comparisons"]
        if entry["budget"] == budget and entry["than"] == results["reference"] and entry["difference"] is not None
    ]
    return {"budget": budget, "chart": difference_chart(found) if found else None}


def _pictures(panel: Panel, label_space: LabelSpace, labels: Mapping[str, str]) -> dict[str, Any]:
    masks = {"Truth": panel.truth, **{labels[name]: ids for name, ids in panel.predictions.items()}}
    tinted = [(label, jpeg_uri(overlay(panel.image, ids, label_space.colours))) for label, ids in masks.items()]
    return {"name": panel.name, "caption": panel.caption, "panels": [("Frame", jpeg_uri(panel.image)), *tinted]}
