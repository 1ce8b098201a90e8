"""Files of a stream's steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lap_monai.checks import UserError
from lap_monai.data import StepData, read_step, write_step
from lap_monai.label_space import get_label_space
from lap_monai.task_stream import TaskStep

SPACE = get_label_space("endoscapes_7")


def make_step(old=("Tool",), new=("Gallbladder",)) -> StepData:
    row = {"image": "train/1_2.jpg", "label": "semseg/1_2.png", "video": "1", "clip": "1", "frame": 2, "phase": None}
    several = {**row, "image": "train/1_3.jpg", "label": {"a.png": 1, "b.png": 2}, "knowledge": [0, 2, 1, 0, 0, 0, 2]}
    bare = {**row, "label": None}
    return StepData("stream", 1, SPACE, TaskStep(SPACE.classes, old, new), [row, several], [], [bare])


def test_what_was_written_is_read_and_relative_paths_start_from_the_data(tmp_path: Path) -> None:
    step = make_step()
    path = write_step(tmp_path / "step.json", step)
    assert read_step(path) == step
    moved = read_step(path, "/data")
    assert [row["image"] for row in moved.train] == ["/data/train/1_2.jpg", "/data/train/1_3.jpg"]
    assert moved.train[0]["label"] == "/data/semseg/1_2.png"
    assert moved.train[1]["label"] == {"/data/a.png": 1, "/data/b.png": 2}
    assert moved.test[0]["label"] is None
    write_step(path, moved)
    assert read_step(path, "/elsewhere") == moved  # absolute paths stay


def test_a_step_says_what_its_checkpoints_say() -> None:
    step = make_step()
    assert step.identity["channels"] == ["Background", "Tool", "Gallbladder"]
    assert step.previous_identity == {**step.identity, "channels": ["Background", "Tool"]}
    assert make_step(old=()).previous_identity == {}
    assert step.alone().task.channels == ("Background", "Gallbladder")
    assert step.jointly().task == TaskStep(SPACE.classes, (), ("Tool", "Gallbladder"))
    assert step.jointly().identity == step.identity


def test_training_frames_choose_where_no_others_are_left() -> None:
    step = make_step()
    assert step.choosing == step.train


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label_space": "endoscapes"}, "Did you mean 'endoscapes_7'"),
        ({"new": ["Galbladder"]}, "Did you mean 'Gallbladder'"),
        ({"new": ["Tool"]}, "'Tool' is named twice"),
        ({"train": []}, "has no training frame"),
        ({"train": [{"label": None}]}, "is no step of a stream (KeyError: 'image')"),
        ({"val": None}, "is no step of a stream (TypeError"),
    ],
)
def test_a_file_that_is_no_step_is_refused(tmp_path: Path, change: dict, said: str) -> None:
    path = write_step(tmp_path / "step.json", make_step())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError) as error:
        read_step(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_step(tmp_path / "nothing.json")
    with pytest.raises(UserError, match="set step_datalist"):
        read_step(None)
    (tmp_path / "text.json").write_text("step")
    with pytest.raises(UserError, match="JSONDecodeError"):
        read_step(tmp_path / "text.json")
