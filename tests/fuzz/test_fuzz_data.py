"""Data sets from outside: pictures, masks, phases, splits, manifests, names of files."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import ODD, damaged, mutated
from PIL import Image
from tiny_data import picture, stripes, write_cholecseg8k, write_dsad, write_endoscapes

from lap_monai.data import load_budget, load_split, read_frame, read_label, read_layout, read_mask
from lap_monai.data.phases import PHASES, read_phase_file
from lap_monai.data.step_files import read_step
from lap_monai.data.validation import validate
from lap_monai.replay import SyntheticSet

Survives = Callable[..., Any]


def encoded(pixels: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


PICTURES = {form: encoded(picture(1), form) for form in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")}
MASK = encoded(stripes(50, 11, 21, 22), "PNG")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(data=st.data(), form=st.sampled_from(sorted(PICTURES)))
def test_damaged_pictures(place: Path, survives: Survives, data: st.DataObject, form: str) -> None:
    path = place / "frame.png"
    path.write_bytes(data.draw(damaged(PICTURES[form])))
    for read in (read_frame, read_mask, lambda path: read_label(str(path), (32, 24))):
        with survives(place):
            read(path)


@given(
    content=st.one_of(st.binary(max_size=200), st.sampled_from([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]))
)
def test_what_is_no_picture(place: Path, survives: Survives, content: bytes) -> None:
    path = place / "none.png"
    path.write_bytes(content)
    with survives(place):
        read_frame(path)


LINE = st.one_of(
    st.builds("{}\t{}".format, st.integers(-5, 10**25), st.sampled_from([*PHASES, "preparation", "x", ""])),
    st.builds("{}\t{}".format, st.text(max_size=5), st.sampled_from(PHASES)),
    st.text(max_size=30),
)


@given(lines=st.lists(LINE, max_size=8), header=st.booleans(), raw=st.binary(max_size=20))
def test_phase_files(place: Path, survives: Survives, lines: list[str], header: bool, raw: bytes) -> None:
    path = place / "video01-phase.txt"
    text = "\n".join(["Frame\tPhase"] * header + lines)
    path.write_bytes(text.encode("utf-8", "replace") + raw)
    with survives(place):
        table = read_phase_file(path)
        for frame in (0, 7, 10**12):
            assert table.at(frame) in (*PHASES, None)


SPLIT = {"name": "s", "origin": "o", "train": ["video01"], "val": ["video02"], "test": ["video03"]}


@given(content=st.one_of(mutated(SPLIT), ODD))
def test_split_files(place: Path, survives: Survives, content: Any) -> None:
    path = place / "split.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with survives(place):
        load_split(path)


BUDGET = {"fraction": 0.5, "unit": "frame", "subset": 0, "fingerprint": "x", "total": 4, "ids": ["a", "b"]}
STEP = {
    "stream": "s",
    "step": 0,
    "label_space": "dsad_11",
    "old": [],
    "new": ["liver"],
    **{part: [{"image": "a.png", "label": {"b.png": 1}, "annotated": ["liver"]}] for part in ("train", "val", "test")},
}


@given(step=st.one_of(mutated(STEP), ODD), budget=st.one_of(mutated(BUDGET), ODD))
def test_budgets_and_steps(place: Path, survives: Survives, step: Any, budget: Any) -> None:
    path = place / "declared.json"
    for content, read in ((step, read_step), (budget, load_budget)):
        path.write_text(json.dumps(content), encoding="utf-8")
        with survives(place):
            read(path)


NAME = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
KNOWN = {
    "cholecseg8k": ["video01/video01_00080/frame_{}_endo.png", "video{}/video01_1/frame_1_endo.png"],
    "endoscapes": ["train/{}_1.jpg", "semseg/{}_1.png", "train_seg/{}.jpg"],
    "dsad": ["liver/{}/image00.png", "liver/01/mask{}.png", "multilabel/01/mask00_{}.png", "colon/{}"],
}


@pytest.fixture(scope="module")
def sets(place: Path) -> dict[str, Path]:
    return {
        "cholecseg8k": write_cholecseg8k(place / "cholec", {(1, 80): [80, 81], (2, 1): [1]}),
        "endoscapes": write_endoscapes(place / "endoscapes", {"train": [(1, 1)], "val": [(2, 1)], "test": [(3, 1)]}),
        "dsad": write_dsad(place / "dsad", {"liver": {"01": 2}, "stomach": {"02": 1}}),
    }


@given(data=st.data(), layout=st.sampled_from(sorted(KNOWN)))
def test_names_of_files(
    place: Path, sets: dict[str, Path], survives: Survives, data: st.DataObject, layout: str
) -> None:
    root = Path(shutil.copytree(sets[layout], place / "copy"))
    try:
        for _ in range(data.draw(st.integers(1, 3))):
            name = data.draw(st.one_of(NAME, st.from_regex(r"\A\d{1,30}\Z"), st.sampled_from(["٣", "²", "0" * 90])))
            pattern = data.draw(st.sampled_from(KNOWN[layout]))
            path = root / pattern.format(name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data.draw(st.sampled_from([b"", MASK, PICTURES["PNG"]])))
            except OSError:  # a name that this file system does not take
                continue
        with survives(place):
            read_layout(root, layout)
        with survives(place):
            validate(root, layout)
    finally:
        shutil.rmtree(root)


@given(content=st.one_of(ODD, st.lists(ODD, max_size=3)))
def test_endoscapes_manifests(place: Path, sets: dict[str, Path], survives: Survives, content: Any) -> None:
    path = sets["endoscapes"] / "frames.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        with survives(place):
            read_layout(sets["endoscapes"], "endoscapes")
    finally:
        path.unlink()


@given(
    content=st.one_of(st.binary(max_size=80), st.lists(st.text(max_size=20), max_size=5).map("\n".join).map(str.encode))
)
def test_weak_labels(place: Path, sets: dict[str, Path], survives: Survives, content: bytes) -> None:
    path = sets["dsad"] / "liver" / "01" / "weak_labels.csv"
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        with survives(place):
            read_layout(sets["dsad"], "dsad")
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def synthetic(place: Path) -> Path:
    made = SyntheticSet.create(place / "set", {"sha256": "0" * 64, "frame_size": [24, 32]}, {"name": "ddim"}, 0)
    made.extend(np.stack([picture(index) for index in range(3)]))
    return made.folder


@given(data=st.data())
def test_manifests_of_synthetic_sets(place: Path, synthetic: Path, survives: Survives, data: st.DataObject) -> None:
    path = synthetic / "manifest.json"
    sound = path.read_bytes()
    content = data.draw(st.one_of(mutated(json.loads(sound)), ODD))
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        with survives(synthetic):
            opened = SyntheticSet.open(synthetic)
            for row in opened.rows():
                assert Path(row["image"]).resolve().is_relative_to(synthetic.resolve())
            opened.verify()
            for index in range(len(opened)):
                opened.read(index)
    finally:
        path.write_bytes(sound)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="a POSIX matter")
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "9" * 10_000, '"\\ud800"', "nul"])
def test_json_that_is_deep_long_or_torn(place: Path, survives: Survives, text: str) -> None:
    path = place / "deep.json"
    path.write_text(text, encoding="utf-8")
    with survives(place):
        load_split(path)
