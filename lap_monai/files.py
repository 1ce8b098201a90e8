"""Files that are either whole or not there: written under a temporary name in their folder, then renamed."""

from __future__ import annotations

import glob
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from lap_monai.checks import UserError

#: Names that `replacing` gives.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.[^.]*)?")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, remove it when it does not.

    Missing parent folders are made. The temporary name keeps the suffix, which some writers need.

    Raises:
        UserError: if the disk is full or the folder cannot be written. What was at `path` before is still whole.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (temporary, path, *path.parents):
            raise  # of another file that the block read
        reason = error.strerror or error
        raise UserError(f"Cannot write {str(path)!r}: {reason}; free space there, or name another folder.") from error


def remove_leftovers(path: str | Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left; for files of one writer at a time."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.????????{glob.escape(path.suffix)}"):
        left.unlink(missing_ok=True)


def remove_all_leftovers(folder: str | Path) -> None:
    """Remove what processes that were killed while they wrote below `folder` have left; for one writer at a time.

    One walk, where `remove_leftovers` of each of many files would list their folder as often.
    """
    for path in Path(folder).rglob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8 to `path`, whole or not at all, and return the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as JSON to `path`, whole or not at all, and return the path.

    NaN and infinity become null, since no other program reads them; a path or any other unknown object becomes its
    text.
    """
    return write_text(
        path, json.dumps(_plain(value), indent=2, ensure_ascii=False, default=str, allow_nan=False) + "\n"
    )


def rounded(value: Any, digits: int = 6) -> Any:
    """Return `value`, a JSON-like structure, with every float cut to `digits` significant digits.

    For summaries of many runs: no score is known any better, and the file is a third smaller.
    """
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {key: rounded(entry, digits) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry, digits) for entry in value]
    return value


def read_json(path: str | Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no JSON, no UTF-8, or nested so deep that Python cannot follow.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", text[:20], 0) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # NumPy and torch, scalars too
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
