from __future__ import annotations

from pathlib import Path

import pytest

from lap_monai.checks import UserError, did_you_mean, require_choice, require_dir


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("epoch", ["rate", "epochs"]) == " Did you mean 'epochs'?"


def test_without_a_near_one_all_names_are_listed_unless_they_are_many() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == " Known: a, b."
    assert did_you_mean("zzz", [f"a{i:02d}" for i in range(25)]).endswith("a19 and 5 more.")


def test_a_choice_is_returned_or_refused() -> None:
    assert require_choice("a", ["a", "b"], "letter") == "a"
    with pytest.raises(UserError, match=r"Unknown letter 'c'\. Known: a, b\."):
        require_choice("c", iter("ab"), "letter")


def test_a_folder_is_returned_or_refused(tmp_path: Path) -> None:
    assert require_dir(str(tmp_path), "dataset_dir") == tmp_path
    with pytest.raises(UserError, match=r"dataset_dir '.*none' does not exist"):
        require_dir(tmp_path / "none", "dataset_dir")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        require_dir(tmp_path / "file", "dataset_dir")


def test_it_is_a_value_error() -> None:
    """So that callers who know nothing of this package can catch it."""
    assert issubclass(UserError, ValueError)
