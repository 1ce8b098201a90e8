from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lap_monai.checks import UserError
from lap_monai.experiments.cells import CELL_SETTINGS, build_cells, choose
from lap_monai.experiments.step import EVALUATE
from lap_monai.experiments.study import ONLY_SPLIT, Study

RUN = Path("/run")


def prints(table: Any, study: Study, run: Path = RUN) -> dict[str, str]:
    return {cell.name: cell.fingerprint for cell in build_cells(table, study, run)}


def test_every_row_at_every_place_has_a_folder_of_its_own(make_table: Any, study: Study) -> None:
    cells = build_cells(make_table(), study, RUN)
    assert len(cells) == len({cell.folder for cell in cells}) == 3 * 8
    assert cells[1].folder == RUN / "cells" / "dcl" / "0.05_0_0"
    assert [step.name for step in cells[1].steps] == ["train", EVALUATE]
    assert {step.folder for step in cells[1].steps} == {cells[1].folder}


def test_overlays_come_before_the_cells_settings_and_after_the_tables(make_table: Any, study: Study) -> None:
    """Or the table's batch of label-only frames would reach the row that goes without."""
    supervised, dcl = build_cells(make_table(), study, RUN)[:2]
    merged = supervised.steps[0].merged()
    assert (merged["label_only_per_batch"], dcl.steps[0].merged()["label_only_per_batch"]) == (0, 2)
    assert (merged["method"], merged["budget"], merged["subset"], merged["resume"]) == ("supervised", 0.05, 0, "auto")
    assert supervised.steps[1].merged()["validate"]["part"] == "@evaluated_part"


def test_an_outcome_has_one_fingerprint_and_another_outcome_another(make_table: Any, study: Study) -> None:
    before = prints(make_table(), study)
    assert len(set(before.values())) == len(before)
    assert prints(make_table(), study, Path("/elsewhere")) == before
    assert (
        prints(make_table(description="in other words", settings={"label_only_per_batch": 2, "epochs": 3}), study)
        == before
    )
    assert prints(make_table(settings={"epochs": 3, "label_only_per_batch": 2, "num_workers": 1}), study) == before
    for changed in (
        prints(make_table(settings={"epochs": 4, "label_only_per_batch": 2}), study),
        prints(make_table(unit="video"), study),
        prints(make_table(), replace(study, data="other frames")),
        prints(make_table(), replace(study, splits={ONLY_SPLIT: replace(study.split(None), train=("video09",))})),
    ):
        assert not set(changed.values()) & set(before.values())


def test_a_split_is_known_by_its_videos_not_by_its_name(make_table: Any, study: Study) -> None:
    renamed = replace(study, splits={ONLY_SPLIT: replace(study.split(None), name="other", origin="elsewhere")})
    assert prints(make_table(), renamed) == prints(make_table(), study)


def test_a_new_row_leaves_the_others_alone(make_table: Any, study: Study, content: dict[str, Any]) -> None:
    before = prints(make_table(), study)
    after = prints(make_table(rows={**content["rows"], "cls": {"overlays": ["cls.json"]}}), study)
    assert {name: after[name] for name in before} == before


def test_a_pretraining_is_shared_by_what_it_does_not_depend_on(make_table: Any, study: Study) -> None:
    frozen = [cell for cell in build_cells(make_table(), study, RUN) if cell.row.name == "frozen"]
    folders = {(cell.at.budget, cell.at.subset, cell.at.seed): cell.steps[0].folder for cell in frozen}
    assert folders[0.05, 0, 0] == folders[0.1, 1, 0] != folders[0.05, 0, 1]
    assert len(set(folders.values())) == 2
    checkpoint = frozen[0].steps[1].settings[CELL_SETTINGS]["encoder_checkpoint"]
    assert checkpoint == str(frozen[0].steps[0].folder / "models" / "model.pt")


def test_rows_with_equal_pretrainings_share_them(make_table: Any, study: Study, content: dict[str, Any]) -> None:
    pretrain, finetune = content["rows"]["frozen"]["stages"]
    free = deepcopy({"stages": [pretrain, {**finetune, "settings": {"freeze_encoder": False}}]})  # no YAML aliases
    cells = build_cells(make_table(rows={**content["rows"], "free": free}), study, RUN)
    first = {cell.row.name: cell for cell in reversed(cells)}
    assert first["free"].steps[0] == first["frozen"].steps[0]
    assert first["free"].fingerprint != first["frozen"].fingerprint


def test_a_pretraining_of_its_own_lies_in_the_cell(make_table: Any, study: Study, content: dict[str, Any]) -> None:
    pretrain, finetune = content["rows"]["frozen"]["stages"]
    own = {key: value for key, value in pretrain.items() if key != "per"}
    (cell, *_) = build_cells(make_table(rows={"frozen": {"stages": [own, finetune]}}), study, RUN)
    assert cell.steps[0].folder == cell.folder / "pretrain"


def test_a_change_of_the_pretraining_changes_the_cell(make_table: Any, study: Study, content: dict[str, Any]) -> None:
    pretrain, finetune = content["rows"]["frozen"]["stages"]
    rows = {"frozen": {"stages": [{**pretrain, "settings": {"temperature": 0.5}}, finetune]}}
    before, after = prints(make_table(), study), prints(make_table(rows=rows), study)
    assert not set(after.values()) & set(before.values())


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_shards_divide_the_cells(make_table: Any, study: Study, count: int) -> None:
    cells = build_cells(make_table(), study, RUN)
    parts = [choose(cells, shard=(number, count)) for number in range(1, count + 1)]
    names = [cell.name for part in parts for cell in part]
    assert sorted(names) == sorted(cell.name for cell in cells)
    assert parts == [choose(cells, shard=(number, count)) for number in range(1, count + 1)]
    for seed in (0, 1):  # cells of one pre-training stay on one machine
        owners = {
            place
            for place, part in enumerate(parts)
            for cell in part
            if (cell.row.name, cell.at.seed) == ("frozen", seed)
        }
        assert len(owners) == 1


def test_only_takes_what_matches_and_refuses_what_matches_nothing(make_table: Any, study: Study) -> None:
    cells = build_cells(make_table(), study, RUN)
    assert {cell.name for cell in choose(cells, "dcl/0.05_*_0")} == {"dcl/0.05_0_0", "dcl/0.05_1_0"}
    with pytest.raises(UserError, match="matches no cell"):
        choose(cells, "dlc/*")


def test_an_unknown_setting_is_refused_and_the_row_named(make_table: Any, study: Study) -> None:
    with pytest.raises(UserError, match=r"the settings of table 'small' sets 'epoch'.*Did you mean 'epochs'"):
        build_cells(make_table(settings={"epoch": 3}), study, RUN)
    with pytest.raises(UserError, match="the settings of row 'a' sets 'dcl_wieght'"):
        build_cells(make_table(rows={"a": {"settings": {"dcl_wieght": 1}}}), study, RUN)
