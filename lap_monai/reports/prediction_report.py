"""`report.html` of a prediction: which structures the frames show and when, on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lap_monai.files import write_text
from lap_monai.label_space import LabelSpace
from lap_monai.reports.examples import Pixels
from lap_monai.reports.pictures import is_grey, jpeg_uri
from lap_monai.reports.report import css_colour, environment

#: Columns of the timeline; frames are pooled into so many at most.
_BINS = 480
_WIDTH, _HEIGHT = 960, 34


def write_prediction_report(
    path: str | Path,
    record: Mapping[str, Any],
    rows: Iterable[Mapping[str, str]],
    label_space: LabelSpace,
    pictures: Sequence[tuple[str, Pixels, Pixels]] = (),
) -> Path:
    """Draw what a prediction run left.

    Args:
        path: the file to write, whole or not at all.
        record: what `run.json` holds.
        rows: those of `frames.csv`; read once, so that memory does not grow with the length of the operation.
        label_space: names and colours of the classes.
        pictures: name, frame and painted frame of a few frames.

    Returns:
        The path.
    """
    timeline = _Timeline(label_space)
    for row in rows:
        timeline.add(row)
    page = (
        environment()
        .get_template("prediction.html")
        .render(
            record=record,
            count=timeline.count,
            status=timeline.status,
            confidence=timeline.mean_confidence,
            axis=timeline.axis(),
            tracks=timeline.tracks(),
            width=_WIDTH,
            height=_HEIGHT,
            pictures=[
                {"name": name, "panels": [("Frame", jpeg_uri(frame)), ("Prediction", jpeg_uri(painted))]}
                for name, frame, painted in pictures
            ],
            legend=[
                (name, css_colour(colour))
                for name, colour in zip(label_space.classes, label_space.colours, strict=True)
                if not is_grey(colour)
            ],
        )
    )
    return write_text(path, page)


@dataclass
class _Track:
    """One class over the run."""

    name: str
    colour: str
    points: str  #: outline of the area, for an SVG polygon
    frames: int  #: frames that show it
    share: float  #: of all segmented frames
    most: float  #: greatest mean area of a bin


class _Timeline:
    """Mean area of each class in at most `2 * _BINS` bins; when they are full, neighbours are pooled."""

    def __init__(self, label_space: LabelSpace) -> None:
        self._space = label_space
        self._areas: NDArray[np.float64] = np.zeros((2 * _BINS, label_space.num_classes))
        self._frames = np.zeros(2 * _BINS, dtype=np.int64)
        self._shown = np.zeros(label_space.num_classes, dtype=np.int64)
        self._size = 1  # frames a bin
        self._confidence = 0.0
        self._last_time: float | None = None
        self.count = 0
        self.status: dict[str, int] = {}

    def add(self, row: Mapping[str, str]) -> None:
        """Take the next row of the table."""
        self.status[row["status"]] = self.status.get(row["status"], 0) + 1
        if row["time"]:
            self._last_time = float(row["time"])
        if self.count // self._size == 2 * _BINS:
            self._areas = np.concatenate([self._areas.reshape(_BINS, 2, -1).sum(1), np.zeros_like(self._areas[:_BINS])])
            self._frames = np.concatenate([self._frames.reshape(_BINS, 2).sum(1), np.zeros_like(self._frames[:_BINS])])
            self._size *= 2
        place = self.count // self._size
        self.count += 1
        if row["status"] != "ok":
            return
        self._areas[place] += [float(row[f"area {name}"]) for name in self._space.classes]
        self._frames[place] += 1
        present = row["present"].split("; ")
        self._shown += [name in present for name in self._space.classes]
        self._confidence += float(row["confidence"])

    @property
    def mean_confidence(self) -> float | None:
        """Mean over the segmented frames."""
        total = int(self._frames.sum())
        return self._confidence / total if total else None

    def axis(self) -> list[tuple[float, str]]:
        """Places and words of five marks, or one a frame: times where the source has any, frame numbers elsewhere."""
        marks = []
        for part in np.linspace(0, 1, min(5, max(self.count, 1))).tolist():
            if self._last_time is None:
                text = str(round(part * max(self.count - 1, 0)))
            else:
                seconds = part * self._last_time
                text = f"{int(seconds // 60)}:{seconds % 60:04.1f}" if self._last_time < 60 else _clock(seconds)
            marks.append((part * _WIDTH, text))
        return marks

    def tracks(self) -> list[_Track]:
        """Every class that some frame shows, in the order of the label space."""
        bins = -(-self.count // self._size)
        mean = self._areas[:bins] / np.maximum(self._frames[:bins, None], 1)
        segmented = max(int(self._frames.sum()), 1)
        return [
            _Track(
                name=name,
                colour=css_colour(self._space.colours[i]),
                points=_outline(mean[:, i]),
                frames=int(self._shown[i]),
                share=self._shown[i] / segmented,
                most=float(mean[:, i].max()),
            )
            for i, name in enumerate(self._space.classes)
            if self._shown[i]
        ]


def _outline(areas: NDArray[np.float64]) -> str:
    """Points of a polygon with a step for each bin, as high as its share of the greatest."""
    top = _HEIGHT - (_HEIGHT - 2) * areas / max(float(areas.max()), 1e-9)
    edges = np.linspace(0, _WIDTH, len(areas) + 1)
    steps = [f"{x:.1f},{y:.1f}" for i, y in enumerate(top) for x in (edges[i], edges[i + 1])]
    return " ".join([f"0,{_HEIGHT}", *steps, f"{_WIDTH},{_HEIGHT}"])


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
