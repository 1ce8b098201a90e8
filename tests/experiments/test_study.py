"""What all rows of a table share; what is refused is in tests/commands/test_table.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from lap_monai.experiments.config_targets import check_targets
from lap_monai.experiments.study import content_hash, merged_config
from lap_monai.experiments.table_file import load_table

TABLES = sorted((Path(__file__).resolve().parents[2] / "configs" / "tables").glob("*.yaml"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_committed_tables_name_what_exists(path: Path) -> None:
    table = load_table(path)
    for row in table.rows:
        for stage in row.stages:
            check_targets(merged_config(table, row, stage, evaluation=True))


def test_a_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert (
        content_hash({"a": 1, "b": [1, 2]})
        == content_hash({"b": [1, 2], "a": 1})
        != content_hash({"a": 1, "b": [2, 1]})
    )
