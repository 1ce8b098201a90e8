"""Errors that a user can act on, and small argument checks.

Data from outside is checked where it enters, once. A failed check raises `UserError`, whose text is one line that names
the file or argument, the cause and the remedy; the command line prints that line and exits with status 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """A problem whose one-line text tells the user what to change; never a bug of this package."""


#: As many names as a line can list.
_MOST = 20


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest of `known`, or a list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    more = f" and {len(known) - _MOST} more" if len(known) > _MOST else ""
    return f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known[:_MOST])}{more}."


def require_choice(value: str, known: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `known`.

    Raises:
        UserError: naming `what`, the value and the nearest valid one.
    """
    known = list(known)
    if value not in known:
        raise UserError(f"Unknown {what} {value!r}.{did_you_mean(value, known)}")
    return value


def require_dir(path: str | Path, what: str) -> Path:
    """Return `path` as an existing folder.

    Raises:
        UserError: if it does not exist or is a file.
    """
    path = Path(path)
    if not path.is_dir():
        state = "is a file, not a folder" if path.exists() else "does not exist"
        raise UserError(f"{what} {str(path)!r} {state}; give the folder that holds the data.")
    return path
