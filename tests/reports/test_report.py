from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lap_monai.label_space import LabelSpace
from lap_monai.metrics import FrameScores, summarise
from lap_monai.reports import Embedding, Example, write_report

HOSTILE = "<script>alert(1)</script>\"'&</style>"

#: Attributes by which a page can load something.
LOADING = ("src", "href", "xlink:href", "data", "poster", "srcset", "action", "background")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects elements and text, and checks that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(" ".join(data.split()))

    def count(self, tag: str, **attributes: str) -> int:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}.items()
        return sum(tag == name and wanted <= attrs.items() for name, attrs in self.elements)

    def said(self) -> str:
        return " ".join(piece for piece in self.text if piece)


def space(*classes: str) -> LabelSpace:
    colours = ((127, 127, 127), (255, 0, 0), (0, 255, 0), (0, 0, 255))
    values = {i: i for i in range(len(classes))}
    return LabelSpace("own", "own", classes, colours[: len(classes)], values, (255,), "a test")


def results(label_space: LabelSpace, videos: int = 6, **row: Any) -> dict[str, Any]:
    """Results of `videos` patients in which the last class is absent."""
    generator = np.random.default_rng(0)
    matrices = generator.integers(1, 50, (2 * videos, label_space.num_classes, label_space.num_classes))
    matrices[:, -1] = 0
    names = tuple(f"p{i // 2}" for i in range(2 * videos))
    nsd = generator.random((2 * videos, label_space.num_classes))
    frames = FrameScores(matrices, names, tuple(f"f{i}" for i in range(2 * videos)), (20, 30), nsd, 2.0)
    identity = {"method": "dcl", "budget": 0.05, "seed": 3, "fold": None, "split": "own/val", "label_space": "own"}
    return {
        "rows": [identity | summarise(frames, label_space.classes) | row],
        "label_space": "own",
        "config": {"weights": {"dcl": 0.1}, "window": [256, 256]},
        "versions": {"torch": "2.13"},
        "git": {"revision": "0123456789abcdef", "dirty": True},
        "command": "python -m monai.bundle run",
    }


def example(name: str = "frame 1", video: str = "p1") -> Example:
    truth = np.zeros((20, 30), np.uint8)
    truth[5:10, 5:10] = 1
    truth[0] = 255
    prediction = np.roll(truth, 2, 1)
    prediction[0] = 0
    return Example(name, video, 0.5, np.full((20, 30, 3), 200, np.uint8), truth, prediction)


HISTORY = [{"epoch": e, "lr": 0.1, "loss": 1 / e, "val_mean_iou": 0.1 * e, "val_iou/liver": 0.2} for e in range(1, 5)]


@pytest.fixture
def full(tmp_path: Path) -> str:
    """A page with everything in it."""
    embedding = Embedding(np.random.default_rng(0).random((30, 5)), ["a", "b", "c"] * 10)
    label_space = space("background", "liver", "duct")
    path = write_report(
        tmp_path / "report.html",
        results(label_space),
        label_space,
        history=HISTORY,
        examples={"best": [example()], "worst": [example("frame 2"), example("frame 3")]},
        embeddings={"scale 1": embedding, "scale 2": embedding},
    )
    return path.read_text(encoding="utf-8")


def test_everything_is_inlined(full: str) -> None:
    page = Page(full)
    for _, attributes in page.elements:
        for name in LOADING:
            assert attributes.get(name, "data:").startswith("data:")
    assert page.count("script") == page.count("link") == page.count("iframe") == 0
    style = re.search(r"<style>(.*?)</style>", full, re.S)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    policies = [a.get("content", "") for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]


def test_every_section_is_there(full: str) -> None:
    page = Page(full)
    said = page.said()
    for heading in ("Classes", "Frames", "Confusion", "Patients", "Training", "Embeddings", "Provenance"):
        assert heading in page.text
    row = results(space("background", "liver", "duct"))["rows"][0]
    assert f"{row['miou']:.3f}" in page.text
    assert f"{row['intervals']['miou'][0]:.3f} – {row['intervals']['miou'][1]:.3f}" in page.text
    assert "6 patients" in said
    assert "weights.dcl" in page.text
    assert "python -m monai.bundle run" in page.text
    assert "0123456789ab, with uncommitted changes" in said
    assert page.count("figure") == 3
    assert page.count("img") == 3 * 4
    assert page.count("polyline", class_="curve") == 3
    assert page.count("circle", r="3.2") == 2 * 30


def test_absent_classes_are_called_absent(full: str) -> None:
    page = Page(full)
    assert page.text.count("absent") == 1
    assert "absent from the truth" in page.text
    assert "No frame of this set shows duct." in page.said()


def test_pictures_are_decodable_and_of_the_frames_shape(full: str) -> None:
    for tag, attributes in Page(full).elements:
        if tag == "img":
            data = base64.b64decode(attributes["src"].split(",", 1)[1])
            assert Image.open(io.BytesIO(data)).size == (30, 20)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    label_space = space("background", HOSTILE, "duct")
    found = results(label_space, method=HOSTILE, split=HOSTILE)
    found |= {"config": {HOSTILE: {HOSTILE: HOSTILE}}, "versions": {HOSTILE: HOSTILE}, "command": HOSTILE}
    found["rows"][0]["per_video"]["videos"][HOSTILE] = found["rows"][0]["per_video"]["videos"].pop("p0")
    path = write_report(
        tmp_path / "report.html",
        found,
        label_space,
        history=[{"epoch": 1, "loss": 1.0, HOSTILE: 2.0, f"val_iou/{HOSTILE}": 0.5}],
        examples={HOSTILE: [example(HOSTILE, HOSTILE)]},
        embeddings={HOSTILE: Embedding(np.eye(4), [HOSTILE] * 4)},
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert page.count("script") == 0
    assert page.count("style") == 1
    assert page.text.count(HOSTILE) >= 8
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_a_page_of_a_bare_result_says_why_there_is_no_interval(tmp_path: Path) -> None:
    label_space = space("background", "liver")
    page = Page(write_report(tmp_path / "report.html", results(label_space, videos=2), label_space).read_text())
    assert "no interval: 2 patients, an interval needs 5" in page.said()
    assert "Training" not in page.text
    assert page.count("figure") == page.count("polyline") == 0


def test_surface_dice_is_left_out_where_it_was_not_measured(tmp_path: Path) -> None:
    label_space = space("background", "liver")
    page = Page(write_report(tmp_path / "report.html", results(label_space, nsd=None), label_space).read_text())
    assert "NSD" not in page.said()
    assert "surface Dice" not in page.said()
