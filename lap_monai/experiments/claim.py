"""`table.json`, `stream.json`: which table or stream a run folder belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lap_monai.checks import UserError
from lap_monai.experiments.study import Study
from lap_monai.experiments.table import Table
from lap_monai.files import read_json, write_json
from lap_monai.provenance import command_line, git_revision, versions

#: Part of an identity → what it is, where its name does not say so.
_WORDS = {
    "label_space": "label space",
    "part": "part of the split",
    "data": "frames (fingerprint)",
    "splits": "split",
    "dataset_dir": "data set folder",
    "declaration": "declaration of this stream",
}


def claim_folder(run_dir: Path, table: Table, study: Study, resume: bool) -> None:
    """Record a table in an empty folder, or see that the folder is this table's.

    Args:
        run_dir: the table's run folder.
        table: the table.
        study: its data, split and label space.
        resume: whether a folder that holds a table may be gone on with.

    Raises:
        UserError: if the folder belongs to another table, or to this one with another label space, split or data; if it
            holds this table and `resume` is false; if it holds something else.
    """
    claim(run_dir, "table", {"table": table.name, **study.to_json()}, table.content, resume)


def claim(run_dir: Path, what: str, identity: Mapping[str, Any], declared: Mapping[str, Any], resume: bool) -> None:
    """Record what a run folder is about in `<what>.json`, or see that it is about the same.

    Args:
        run_dir: the run folder.
        what: the kind of study, `"table"` or `"stream"`.
        identity: in which all that goes on in the folder must agree.
        declared: what was asked for, for people.
        resume: whether a folder that holds such a study may be gone on with.

    Raises:
        UserError: as `claim_folder`.
    """
    path = run_dir / f"{what}.json"
    if path.is_file():
        _compare(path, _read(path), identity)
        if not resume:
            raise UserError(
                f"{str(run_dir)!r} holds this {what} already; add --resume to go on, or give another --out."
            )
    elif (run_dir / "cells").exists() or (run_dir / "results.json").exists():
        raise UserError(f"{str(run_dir)!r} holds results of no known {what}; give another --out.")
    else:
        provenance = {"command": command_line(), "versions": versions(), "git": git_revision()}
        write_json(path, {"identity": identity, "declared": declared, **provenance})


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)["identity"]
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{str(path)!r} is damaged; give another --out, or delete the folder.") from None


def _compare(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, new in wanted.items():
        old = found.get(key)
        if old != new:
            shown = "" if isinstance(new, dict) else f" {old!r}, not {new!r}"
            raise UserError(
                f"{str(path.parent)!r} holds results of another {_WORDS.get(key, key)}{shown}; results of two are "
                "never mixed, so give another --out."
            )
