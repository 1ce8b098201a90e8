"""`report.html`: a run on one page, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lap_monai.files import write_text
from lap_monai.flatten import flatten
from lap_monai.label_space import LabelSpace
from lap_monai.reports.charts import Embedding, curves, heat_map, scatter
from lap_monai.reports.examples import Example
from lap_monai.reports.pictures import error_map, jpeg_uri, overlay


def write_report(
    path: str | Path,
    results: Mapping[str, Any],
    label_space: LabelSpace,
    *,
    history: Sequence[Mapping[str, Any]] = (),
    examples: Mapping[str, Sequence[Example]] | None = None,
    embeddings: Mapping[str, Embedding] | None = None,
    title: str | None = None,
) -> Path:
    """Draw the first row of `results` and what belongs to it, as one self-contained HTML file.

    Nothing is loaded from elsewhere: pictures are inlined, there is no script, and a content policy in the page forbids
    both. All names are escaped.

    Args:
        path: the file to write, whole or not at all.
        results: what `results.json` holds.
        label_space: names and colours of the classes.
        history: rows of `history.json`; without them there are no curves.
        examples: group, for example `"best"` → frames.
        embeddings: scale → vectors and their groups.
        title: heading; by default made of the method and the split.

    Returns:
        The path.
    """
    row = results["rows"][0]
    colours = dict(zip(label_space.classes, (css_colour(colour) for colour in label_space.colours), strict=True))
    page = (
        environment()
        .get_template("report.html")
        .render(
            title=title or f"{row['method']} on {row['split']}",
            row=row,
            results=results,
            classes=label_space.classes,
            colours=colours,
            legend=_legend(label_space, row),
            curves=curves(history),
            examples=_pictures(examples or {}, label_space),
            heat=heat_map(row["confusion"], label_space.classes),
            scatters=[scatter(name, embedding) for name, embedding in (embeddings or {}).items()],
            settings=flatten(results.get("config", {})),
            markers=_markers(row),
        )
    )
    return write_text(path, page)


def css_colour(colour: Sequence[int]) -> str:
    """Return an RGB triple as a CSS colour."""
    red, green, blue = (int(part) for part in colour)
    return f"rgb({red},{green},{blue})"


def environment() -> Environment:
    """Return the templates of this folder, with their filters; all text is escaped."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),  # not by name: a packed bundle holds this package under another
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["score"] = lambda value: "–" if value is None else f"{value:.3f}"
    templates.filters["share"] = lambda value: f"{100 * value:.4g}%"
    templates.filters["whole"] = lambda value: f"{value:,}".replace(",", "\u202f")
    templates.filters["setting"] = _setting
    return templates


def _setting(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(entry) for entry in value)
    return "–" if value is None else str(value)


def _legend(label_space: LabelSpace, row: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, css_colour(colour))
        for name, colour in zip(label_space.classes, label_space.colours, strict=True)
        if name not in row["absent"]
    ]


def _markers(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The averages that the headline's scale shows, by name."""
    values = {
        "pooled": row["miou"],
        "per video": row["per_video"]["miou"],
        "per image": row["per_image"]["miou"],
    }
    return [(name, value) for name, value in values.items() if value is not None]


def _pictures(examples: Mapping[str, Sequence[Example]], label_space: LabelSpace) -> list[tuple[str, list[dict]]]:
    return [(group, [_picture(kept, label_space) for kept in frames]) for group, frames in examples.items() if frames]


def _picture(example: Example, label_space: LabelSpace) -> dict[str, Any]:
    colours = label_space.colours
    return {
        "name": example.name,
        "video": example.video,
        "score": example.score,
        "panels": [
            ("Frame", jpeg_uri(example.image)),
            ("Truth", jpeg_uri(overlay(example.image, example.truth, colours))),
            ("Prediction", jpeg_uri(overlay(example.image, example.prediction, colours))),
            ("Errors", jpeg_uri(error_map(example, colours))),
        ],
    }
