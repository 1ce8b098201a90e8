"""A table of two one-stage rows and one of two stages, in a file that a test may change."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lap_monai.data import Split
from lap_monai.experiments.study import ONLY_SPLIT, Study
from lap_monai.experiments.table import Table
from lap_monai.experiments.table_file import load_table
from lap_monai.label_space import get_label_space

MakeTable = Callable[..., Table]


@pytest.fixture
def content(repository: Path) -> dict[str, Any]:
    """What a small table file holds."""
    return {
        "name": "small",
        "bundle": str(repository / "bundles" / "cholecseg8k_contrastive"),
        "configs": ["train.json"],
        "settings": {"epochs": 3, "label_only_per_batch": 2},
        "rows": {
            "supervised": {"label": "Random", "overlays": ["supervised.json"]},
            "dcl": {"overlays": ["dcl.json"]},
            "frozen": {
                "stages": [
                    {"name": "pretrain", "overlays": ["pretrain.json"], "per": ["seed"]},
                    {
                        "name": "finetune",
                        "overlays": ["finetune.json"],
                        "uses": {"encoder_checkpoint": "pretrain/models/model.pt"},
                    },
                ]
            },
        },
        "budgets": [0.05, 0.1],
        "subsets": [0, 1],
        "seeds": [0, 1],
    }


@pytest.fixture
def make_table(content: dict[str, Any], tmp_path: Path) -> MakeTable:
    """Load the small table with other values for some of its keys; None drops one."""

    def make(**changes: Any) -> Table:
        changed = {key: value for key, value in {**deepcopy(content), **changes}.items() if value is not None}
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
        return load_table(path)

    return make


@pytest.fixture
def study() -> Study:
    """A study of the paper's eight classes, whose frames nobody reads."""
    split = Split("own", "made up", ("video01",), ("video02",), ("video03", "video04"))
    return Study(get_label_space("cholecseg8k_zhang8"), "test", {ONLY_SPLIT: split}, "abc", ())
