"""The frames of a stream's steps on disk: written once, then all that anybody looks at."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_data import write_dsad

from lap_monai.checks import UserError
from lap_monai.data import Stream
from lap_monai.experiments.stream_files import open_stream_files
from lap_monai.label_space import get_label_space

STREAM = Stream(
    name="two",
    label_space=get_label_space("dsad_11"),
    groups=(("stomach",), ("colon",)),
    protocol="one_organ_per_frame",
    split=(0.5, 0.25, 0.25),
    weak_labels=False,
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAP_MONAI_CACHE", str(tmp_path / "cache"))
    patients = {f"{number:02d}": 1 for number in range(1, 9)}
    return write_dsad(tmp_path / "data", {"stomach": patients, "colon": patients}, multilabel=False)


def test_every_step_has_a_file_that_names_its_frames_alone(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    files = open_stream_files(run, STREAM, data, resume=False, progress=False)
    first, second = ({row["image"] for row in (*step.train, *step.val)} for step in files.steps)
    assert first
    assert second
    assert not first & second
    assert {row["image"] for row in (*files.joint.train, *files.joint.val)} == first | second
    assert files.joint.task.new == ("stomach", "colon")
    text = files.step_file(1).read_text(encoding="utf-8")
    assert not [path for path in first if path in text]
    assert [task.new for task in files.tasks] == [("stomach",), ("colon",)]


def test_a_planned_stream_needs_no_frame_of_a_step_that_is_done(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    before = open_stream_files(run, STREAM, data, resume=False, progress=False)
    for row in before.steps[0].train:
        Path(row["image"]).unlink()
    again = open_stream_files(run, STREAM, data, resume=True, progress=False)
    assert again.steps == before.steps
    assert again.plan == before.plan


def test_one_folder_holds_one_stream_over_one_data_set(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    open_stream_files(run, STREAM, data, resume=False, progress=False)
    with pytest.raises(UserError, match="add --resume"):
        open_stream_files(run, STREAM, data, resume=False)
    for word, changed in (
        ("stream 'two', not 'three'", replace(STREAM, name="three")),
        ("declaration of this stream", replace(STREAM, groups=(("colon",), ("stomach",)))),
        ("declaration of this stream", replace(STREAM, seed=1)),
    ):
        with pytest.raises(UserError, match=f"results of another {word}"):
            open_stream_files(run, changed, data, resume=True)
    other = shutil.copytree(data, tmp_path / "other")
    with pytest.raises(UserError, match="another data set folder"):
        open_stream_files(run, STREAM, other, resume=True)
    open_stream_files(run, replace(STREAM, description="in other words"), data, resume=True)


def test_an_interrupted_plan_is_made_anew(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    open_stream_files(run, STREAM, data, resume=False, progress=False)
    (run / "stream.json").unlink()  # it is written last
    files = open_stream_files(run, STREAM, data, resume=False, progress=False)
    assert len(files.steps) == 2
