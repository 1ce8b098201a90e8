from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lap_monai.checks import UserError
from lap_monai.experiments.claim import claim_folder
from lap_monai.experiments.study import ONLY_SPLIT, Study
from lap_monai.files import read_json
from lap_monai.label_space import get_label_space


def test_the_first_runner_says_whose_the_folder_is(make_table: Any, study: Study, tmp_path: Path) -> None:
    claim_folder(tmp_path / "run", make_table(), study, resume=False)
    record = read_json(tmp_path / "run" / "table.json")
    assert record["identity"]["table"] == "small"
    assert record["declared"]["budgets"] == [0.05, 0.1]
    assert record["versions"]["monai"]


def test_going_on_has_to_be_asked_for(make_table: Any, study: Study, tmp_path: Path) -> None:
    claim_folder(tmp_path, make_table(), study, resume=True)
    with pytest.raises(UserError, match="add --resume"):
        claim_folder(tmp_path, make_table(), study, resume=False)
    claim_folder(tmp_path, make_table(seeds=[0, 1, 2]), study, resume=True)  # a table may grow


def test_results_of_two_studies_are_never_mixed(make_table: Any, study: Study, tmp_path: Path) -> None:
    claim_folder(tmp_path, make_table(), study, resume=False)
    other_split = {ONLY_SPLIT: replace(study.split(None), test=("video03",))}
    for word, table, changed in (
        ("table", make_table(name="other"), study),
        ("label space", make_table(), replace(study, label_space=get_label_space("cholecseg8k_13"))),
        ("part of the split", make_table(), replace(study, part="val")),
        ("split", make_table(), replace(study, splits=other_split)),
        ("frames", make_table(), replace(study, data="xyz")),
    ):
        with pytest.raises(UserError, match=f"holds results of another {word}"):
            claim_folder(tmp_path, table, changed, resume=True)


def test_a_folder_of_something_else_is_left_alone(make_table: Any, study: Study, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="no known table"):
        claim_folder(tmp_path, make_table(), study, resume=True)
    assert not (tmp_path / "table.json").exists()
