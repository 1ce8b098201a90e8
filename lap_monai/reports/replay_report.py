"""`report.html` of a synthetic set's audit: what was drawn, what it is nearest to, what was dropped and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lap_monai.files import write_text
from lap_monai.flatten import flatten
from lap_monai.label_space import LabelSpace
from lap_monai.reports.charts import line_chart
from lap_monai.reports.examples import Pixels
from lap_monai.reports.pictures import jpeg_uri
from lap_monai.reports.report import css_colour, environment

#: Measure → how the report calls it, and whether more is better.
MEASURES = {
    "kid": ("KID", "lower is nearer to the training frames; 0 is no difference"),
    "precision": ("Precision", "share of images among the training frames"),
    "recall": ("Recall", "share of training frames among the images"),
    "ms_ssim": ("MS-SSIM of pairs", "lower is more varied"),
}

#: Set → how the report calls it.
SETS = {"all": "all images", "kept": "images kept", "held_out": "real frames of new patients"}


class Pair(Protocol):
    """An image and the training frame nearest to it."""

    image: int
    frame: str
    pixels: Pixels
    frame_pixels: Pixels
    distance: float
    flagged: bool


class Audited(Protocol):
    """What an audit leaves, `lap_monai.replay.AuditOutcome`."""

    results: Mapping[str, Any]
    samples: Sequence[tuple[int, Pixels]]
    neighbours: Sequence[Pair]


def write_replay_report(
    path: str | Path,
    audited: Audited,
    label_space: LabelSpace,
    others: Sequence[Mapping[str, Any]] = (),
    history: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Draw an audit as one self-contained HTML file. It shows training frames: it is not to be shared with the set.

    Args:
        path: the file to write, whole or not at all.
        audited: results, images and pairs.
        label_space: names and colours of the teacher's classes.
        others: contents of the `audit.json` of other sets, for the quality over a sampler's steps.
        history: rows of `memorisation.json`, the audits during the generator's training.

    Returns:
        The path.
    """
    results = audited.results
    colours = dict(zip(label_space.classes, (css_colour(colour) for colour in label_space.colours), strict=True))
    page = (
        environment()
        .get_template("replay.html")
        .render(
            results=results,
            memorisation=results["memorisation"],
            filters=results["filters"],
            labels=results["labels"],
            class_shares=_class_shares(results["labels"]),
            colours=colours,
            measures=MEASURES,
            sets=SETS,
            samples=[(index, jpeg_uri(pixels)) for index, pixels in audited.samples],
            pairs=[
                {"pair": pair, "image": jpeg_uri(pair.pixels), "frame": jpeg_uri(pair.frame_pixels)}
                for pair in audited.neighbours
            ],
            flagged=line_chart("Share flagged", [row["epoch"] for row in history], [row["share"] for row in history]),
            over_steps=_over_steps([results, *others]),
            provenance=flatten({"generator": results["generator"], "sampler": results["sampler"]}),
        )
    )
    return write_text(path, page)


def _class_shares(labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Share of each class's pixels before and after the selection, and in how many images it is."""
    before, after = (max(1, sum(labels[key].values())) for key in ("pixels_before", "pixels"))
    return [
        {
            "name": name,
            "before": labels["pixels_before"][name] / before,
            "after": labels["pixels"][name] / after,
            "images": labels["images_with_class"][name],
        }
        for name in labels["classes"]
    ]


def _over_steps(every: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One chart a measure over the steps of each sampler of which several sets are at hand."""
    by_sampler: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for results in every:
        steps = results["sampler"].get("steps")
        if steps is not None:
            by_sampler.setdefault(str(results["sampler"]["name"]), []).append((int(steps), results["quality"]["all"]))
    charts = []
    for name, found in by_sampler.items():
        found.sort(key=lambda entry: entry[0])
        if len({steps for steps, _ in found}) > 1:
            charts += [
                line_chart(f"{name}: {title}", [steps for steps, _ in found], [of.get(key) for _, of in found])
                for key, (title, _) in MEASURES.items()
            ]
    return charts
