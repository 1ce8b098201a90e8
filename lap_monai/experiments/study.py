"""What all cells of a table share: the data, the split, the label space. Results of two studies are never mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from lap_monai.checks import UserError, require_choice, require_dir
from lap_monai.data import Row as Frame
from lap_monai.data import Split, fingerprint
from lap_monai.experiments.bundle_run import find_user_error
from lap_monai.experiments.config_targets import check_targets
from lap_monai.experiments.layers import Layer, merge_layers
from lap_monai.experiments.table import Row, Stage, Table
from lap_monai.label_space import LabelSpace

#: Config ids in which the rows of a table must agree, or their scores could not be compared.
SHARED = ("label_space", "space", "layout", "split", "split_def", "datalist", "parts", "evaluated_part")

#: How a study calls the split of a table that names none of its own.
ONLY_SPLIT = ""


@dataclass(frozen=True)
class Study:
    """The frames, their split and the classes that a table's scores are about.

    Args:
        label_space: of every score.
        part: of the split that is evaluated.
        splits: the table's split names, or `ONLY_SPLIT` → the split.
        data: fingerprint of the frames.
        frames: the datalist rows.
    """

    label_space: LabelSpace
    part: str
    splits: Mapping[str, Split]
    data: str
    frames: Sequence[Frame]

    def split(self, name: str | None) -> Split:
        """Return a split by the name that a cell has for it."""
        return self.splits[name or ONLY_SPLIT]

    def to_json(self) -> dict[str, Any]:
        """Return what identifies the study."""
        return {
            "label_space": self.label_space.name,
            "part": self.part,
            "data": self.data,
            "splits": {name: {**split.to_json(), "origin": None} for name, split in self.splits.items()},
        }


def merged_config(table: Table, row: Row, stage: Stage, evaluation: bool) -> dict[str, Any]:
    """Return the merged config of one stage of a row, without what its cells differ in.

    The table's settings come before the stage's overlays, which may so replace them; the stage's settings come last.

    Raises:
        UserError: for an override that the bundle does not have, naming the row.
    """
    table_settings: Layer = (f"the settings of table {table.name!r}", table.settings)
    own: Layer = (f"the settings of row {row.name!r}", {**dict.fromkeys(stage.uses, ""), **stage.settings})
    return merge_layers([*table.configs, table_settings, *stage.overlays, own, *(table.evaluate if evaluation else ())])


def open_study(table: Table, data: str | Path) -> Study:
    """Read what the table's data set, label space and splits are, and see that all rows agree on them.

    Raises:
        UserError: if a row's config has an unknown key or component, rows disagree, the data set does not fit, the
            split changes with the seed, or a published class is not in the label space.
    """
    configs = [merged_config(table, row, row.stages[-1], evaluation=True) for row in table.rows]
    for row, config in zip(table.rows, configs, strict=True):
        _check_row(table, row, config, configs[0])
    folder = str(require_dir(data, "The data set").resolve())
    with user_errors_freed():
        parser = _parser({**configs[0], "dataset_dir": folder, "seed": table.seeds[0]})
        space, frames = parser.get_parsed_content("space"), parser.get_parsed_content("datalist")
        part = str(parser.get_parsed_content("evaluated_part"))
        splits = {name or ONLY_SPLIT: _split(table, configs[0], name, frames) for name in table.splits or (None,)}
    _check_published(table, space)
    return Study(space, part, splits, fingerprint(frames), frames)


def content_hash(content: Any) -> str:
    """Return a short hash of JSON-able content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _check_row(table: Table, row: Row, config: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    for stage in row.stages:
        check_targets(merged_config(table, row, stage, evaluation=stage is row.stages[-1]))
    for key in SHARED:
        if config.get(key) != first.get(key):
            raise UserError(
                f"table {table.name!r}: row {row.name!r} has {key} {config.get(key)!r}, row {table.rows[0].name!r} "
                f"{first.get(key)!r}; one table compares one {key}, so set it in the table's settings or configs."
            )


def _split(table: Table, config: Mapping[str, Any], name: str | None, frames: Sequence[Frame]) -> Split:
    """The split that a name stands for, found to be the same for every seed and to fit the data."""
    found: dict[str, Split] = {}
    for seed in table.seeds:
        chosen = {} if name is None else {"split": name}
        parser = _parser({**config, **chosen, "seed": seed, "datalist": "$table_frames"}, frames)
        split = parser.get_parsed_content("split_def")
        if not found:
            parser.get_parsed_content("parts")  # refuses a split whose videos are not in the data set
        found[content_hash({**split.to_json(), "name": ""})] = split
    if len(found) > 1:
        raise UserError(
            f"table {table.name!r}: the split changes with the seed, so its cells would be scored on different "
            "patients; fix split_def in the settings, for example "
            "split_def: $data.split_by_video(@datalist, seed=0)."
        )
    return next(iter(found.values()))


def _parser(config: Mapping[str, Any], frames: Sequence[Frame] = ()) -> ConfigParser:
    parser = ConfigParser(dict(config), globals={"table_frames": list(frames)})
    parser.parse()
    return parser


def _check_published(table: Table, space: LabelSpace) -> None:
    for name, budgets in table.published.items():
        for classes in budgets.values():
            for label in classes:
                require_choice(label, space.classes, f"class of {space.name} in the published values of {name!r}:")


@contextmanager
def user_errors_freed() -> Iterator[None]:
    """Let a `UserError` out of the errors that MONAI's parser wraps around it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = find_user_error(error)
        if cause is None:
            raise
        raise UserError(str(cause)) from error
