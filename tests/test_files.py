from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lap_monai.checks import UserError
from lap_monai.files import (
    read_json,
    remove_all_leftovers,
    remove_leftovers,
    replacing,
    rounded,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")

    def fill_the_disk() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(UserError, match=r"Cannot write '.*a\.txt': disk full; free space"):
        fill_the_disk()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_about_another_file_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="source"), replacing(tmp_path / "a.txt"):
        (tmp_path / "source.txt").read_text()


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken/a\.txt'"):
        write_text(tmp_path / "taken" / "a.txt", "")


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.b [1].png"
    others = ["a.b [1].png", ".other.0123abcd.png", ".a.b [1].0123abcd.json", ".a.b [1].png", ".a.b 1.0123abcd.png"]
    for name in (*others, ".a.b [1].0123abcd.png", ".a.b [1].ffffffff.png"):
        (tmp_path / name).touch()
    remove_leftovers(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(others)


def test_leftovers_of_any_file_below_a_folder_are_removed_and_nothing_else(tmp_path: Path) -> None:
    """Whatever a writer is killed at, what it leaves bears the name that `replacing` gave."""
    left = []
    whole = ["a/frame.1.png", "a/b/labels.nii.gz", "run.json", "a/no suffix"]
    for name in whole:
        with replacing(tmp_path / name) as temporary:
            temporary.touch()
            left.append(temporary)
    for path in left:
        path.touch()
    others = [".hidden", ".frames.csv", "a/.hidden.png", "a/.0123abcd.png", "a/frame.0123abcd.png", "a/.x.0123ABCD.png"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".folder.0123abcd.png").mkdir()
    remove_all_leftovers(tmp_path)
    found = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {*others, *whole}


def test_parents_are_made(tmp_path: Path) -> None:
    assert write_text(tmp_path / "a" / "b" / "c.txt", "é").read_bytes() == "é".encode()


def test_json_holds_what_json_can_hold(tmp_path: Path) -> None:
    value = {
        "nan": float("nan"),
        "array": np.array([1.0, np.inf]),
        "tensor": torch.tensor(2),
        "path": Path("x"),
        3: (1,),
    }
    path = write_json(tmp_path / "v.json", value)
    assert read_json(path) == {"nan": None, "array": [1.0, None], "tensor": 2, "path": "x", "3": [1]}
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in the file"))


def test_rounded_cuts_floats_at_any_depth_and_nothing_else() -> None:
    value = {"a": [0.123456789, {"b": 123456.789}], "c": 7, "d": None, "e": True, "f": "0.123456789", "g": 1e-12 / 3}
    assert rounded(value) == {
        "a": [0.123457, {"b": 123457.0}], "c": 7, "d": None, "e": True, "f": "0.123456789", "g": 3.33333e-13,
    }  # fmt: skip
    assert rounded(float("inf")) == float("inf")
    assert rounded(0.126, digits=1) == 0.1
