"""`table.json`: which table a run folder belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lap_monai.checks import UserError
from lap_monai.experiments.study import Study
from lap_monai.experiments.table import Table
from lap_monai.files import read_json, write_json
from lap_monai.provenance import command_line, git_revision, versions

#: File of a run folder that says what its cells are about.
FILE_NAME = "table.json"


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
    path = run_dir / FILE_NAME
    identity = {"table": table.name, **study.to_json()}
    if path.is_file():
        _compare(path, _read(path), identity)
        if not resume:
            raise UserError(f"{str(run_dir)!r} holds this table already; add --resume to go on, or give another --out.")
    elif (run_dir / "cells").exists() or (run_dir / "results.json").exists():
        raise UserError(f"{str(run_dir)!r} holds results of no known table; give another --out.")
    else:
        provenance = {"command": command_line(), "versions": versions(), "git": git_revision()}
        write_json(path, {"identity": identity, "declared": table.content, **provenance})


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)["identity"]
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{str(path)!r} is damaged; give another --out, or delete the folder.") from None


def _compare(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    words = {
        "table": "table",
        "label_space": "label space",
        "part": "part of the split",
        "data": "frames (fingerprint)",
        "splits": "split",
    }
    for key, word in words.items():
        old, new = found.get(key), wanted[key]
        if old != new:
            shown = "" if isinstance(new, dict) else f" {old!r}, not {new!r}"
            raise UserError(
                f"{str(path.parent)!r} holds results of another {word}{shown}; results of two are never mixed, so give "
                "another --out."
            )
