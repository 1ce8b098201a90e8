"""`report.html` of a stream: its methods side by side on one page, in one file that needs nothing else."""

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
from lap_monai.reports.stream_markdown import KINDS, MEASURES, byte_size, mean_and_sd, step_name
from lap_monai.reports.table_charts import CurvePoint, colours, difference_chart, step_chart

#: Mean of a step → how the report calls it, for the curves over steps.
CURVES = {
    "all": "Mean IoU of all classes learnt so far",
    "base": "Mean IoU of the classes of step 0",
    "new": "Mean IoU of the classes that came later",
    "harmonic_mean": "Harmonic mean of base and new",
    "background": "IoU of the background, where a collapse shows",
}


@dataclass(frozen=True, eq=False)
class StreamPanel:
    """One frame, its truth, and what each method makes of it after each step."""

    name: str
    caption: str
    image: Pixels  #: `(H, W, 3)`
    truth: Pixels  #: class ids `(H, W)`, 255 = ignore
    predictions: Mapping[str, Mapping[int, Pixels]]  #: method → step → class ids `(H, W)`


@dataclass(frozen=True, eq=False)
class ReplaySample:
    """A synthetic image that stands in for a step's frames, and what a teacher sees in it."""

    step: int  #: whose frames its generator learnt
    name: str
    image: Pixels  #: `(H, W, 3)`
    labels: Pixels | None  #: class ids `(H, W)` of the network after that step; None without a teacher


def write_stream_report(
    path: str | Path,
    results: Mapping[str, Any],
    label_space: LabelSpace,
    panels: Sequence[StreamPanel] = (),
    samples: Sequence[ReplaySample] = (),
) -> Path:
    """Draw what a stream's `results.json` holds.

    Args:
        path: the file to write, whole or not at all.
        results: what `results.json` holds.
        label_space: names and colours of the classes.
        panels: frames that every method segmented after every step.
        samples: synthetic images.

    Returns:
        The path.
    """
    labels = results["labels"]
    page = (
        environment()
        .get_template("stream.html")
        .render(
            results=results,
            labels=labels,
            hues=dict(zip(labels, colours(len(labels)), strict=True)),
            charts=[_curves(results, name, words) for name, words in CURVES.items()],
            measures=MEASURES,
            kinds=KINDS,
            forgotten=[_forgetting(results, name) for name in results["classes"]],
            final=[_final(results, name) for name in results["classes"]],
            forest=_forest(results),
            panels=[_pictures(panel, label_space, labels) for panel in panels],
            samples=_samples(samples, label_space),
            legend=[
                (name, css_colour(colour))
                for name, colour in zip(label_space.classes, label_space.colours, strict=True)
                if not is_grey(colour) and name in results["classes"]
            ],
            settings=flatten(results["config"]),
            mean_and_sd=mean_and_sd,
            byte_size=byte_size,
            step_name=step_name,
        )
    )
    return write_text(path, page)


def _curves(results: Mapping[str, Any], name: str, words: str) -> dict[str, Any]:
    """A mean over classes after each step, averaged over seeds; whiskers are the lowest and highest seed."""
    curves: dict[str, list[CurvePoint]] = {label: [] for label in results["labels"].values()}
    for method, label in results["labels"].items():
        for step in results["steps"]:
            values = [
                row["means"]["iou"][name]
                for row in results["rows"]
                if (row["method"], row["step"]) == (method, step["step"]) and row["means"]["iou"][name] is not None
            ]
            if values:
                ends = (min(values), max(values)) if len(values) > 1 else (None, None)
                curves[label].append((step["step"], sum(values) / len(values), *ends))
    return step_chart(words, curves)


def _forgetting(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What each method forgot of a class, drawn from a middle line: to the right lost, to the left gained."""
    bars = []
    for entry in results["summary"]:
        found = entry["iou"]["forgetting"].get(name)
        value = None if found is None else found["mean"]
        if value is not None:
            width = min(abs(value), 1.0) / 2
            bars.append({"method": entry["method"], "value": value, "left": 0.5 - width * (value < 0), "width": width})
    return {"name": name, "bars": bars}


def _final(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    bars = []
    for entry in results["summary"]:
        found = entry["iou"]["classes"].get(name) or {"mean": None, "sd": None}
        mean, sd = found["mean"], found["sd"]
        whisker = None if mean is None or sd is None else (max(0.0, mean - sd), min(1.0, mean + sd))
        bars.append({"method": entry["method"], "value": mean, "sd": sd, "whisker": whisker})
    return {"name": name, "bars": bars}


def _forest(results: Mapping[str, Any]) -> dict[str, Any] | None:
    found = [
        (results["labels"][entry["method"]], entry["difference"], entry["interval"], entry["verdict"])
        for entry in results["comparisons"]
        if entry["than"] == results["reference"] and entry["difference"] is not None
    ]
    return difference_chart(found) if found else None


def _pictures(panel: StreamPanel, space: LabelSpace, labels: Mapping[str, str]) -> dict[str, Any]:
    def drawn(ids: Pixels) -> str:
        return jpeg_uri(overlay(panel.image, ids, space.colours))

    rows = [
        (labels[method], [(f"after step {step}", drawn(ids)) for step, ids in sorted(by_step.items())])
        for method, by_step in panel.predictions.items()
    ]
    first = [("Frame", jpeg_uri(panel.image)), ("Truth", drawn(panel.truth))]
    return {"name": panel.name, "caption": panel.caption, "first": first, "rows": rows}


def _samples(samples: Sequence[ReplaySample], space: LabelSpace) -> list[tuple[int, list[tuple[str, str]]]]:
    by_step: dict[int, list[tuple[str, str]]] = {}
    for sample in samples:
        shown = by_step.setdefault(sample.step, [])
        shown.append((f"{sample.name}, synthetic", jpeg_uri(sample.image)))
        if sample.labels is not None:
            shown.append((f"{sample.name}, teacher", jpeg_uri(overlay(sample.image, sample.labels, space.colours))))
    return sorted(by_step.items())
