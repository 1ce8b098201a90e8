"""The known folder layouts, and reading a folder through them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lap_monai.checks import UserError, require_choice, require_dir
from lap_monai.data import cholecseg8k, dsad, endoscapes
from lap_monai.data.finding import Finding
from lap_monai.data.layout import Layout, Row

#: Every layout by its name. A further one is a module with a `LAYOUT`, named here.
LAYOUTS: dict[str, Layout] = {module.LAYOUT.name: module.LAYOUT for module in (cholecseg8k, endoscapes, dsad)}


def find_layout(root: str | Path, layout: str | None = None) -> tuple[Layout, Path]:
    """Find out how a folder is laid out and where exactly its data set begins.

    Args:
        root: the data set's folder, or one that holds it as its only data set.
        layout: name of the layout to expect; None tries all.

    Returns:
        The layout and the data set's own folder: `root` or a folder inside it.

    Raises:
        UserError: if the folder is missing, empty, laid out otherwise, or holds several data sets.
    """
    root = require_dir(root, "dataset_dir")
    wanted = list(LAYOUTS.values()) if layout is None else [LAYOUTS[require_choice(layout, LAYOUTS, "layout")]]
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    found = [(known, folder) for folder in folders for known in wanted if known.matches(folder)]
    inside = found if not found or found[0][1] != root else found[:1]
    if len(inside) == 1:
        return inside[0][0], Path(os.path.abspath(inside[0][1]))
    if inside:
        names = ", ".join(f"{folder.name}/ ({known.name})" for known, folder in inside)
        raise UserError(f"dataset_dir {str(root)!r} holds several data sets: {names}; name one of these folders.")
    expected = " or ".join(f"{known.expected} ({known.name})" for known in wanted)
    others = [known.name for known in LAYOUTS.values() if known not in wanted and known.matches(root)]
    hint = f", which looks like layout {others[0]!r}" if others else ""
    raise UserError(f"dataset_dir {str(root)!r}: expected {expected}; found {_describe(root)}{hint}.")


def detect_layout(root: str | Path) -> str:
    """Return the name of the layout of a folder.

    Raises:
        UserError: as `find_layout` does.
    """
    return find_layout(root)[0].name


def scan_layout(
    root: str | Path, layout: str | None = None, phases_dir: str | Path | None = None
) -> tuple[Layout, Path, list[Row], list[Finding]]:
    """Return layout, data set folder, rows and defects of the set of files, without refusing any.

    Raises:
        UserError: as `find_layout` does, and if a phase file is damaged.
    """
    known, folder = find_layout(root, layout)
    rows, findings = known.scan(folder, None if phases_dir is None else Path(phases_dir))
    return known, folder, rows, findings


def read_layout(root: str | Path, layout: str | None = None, phases_dir: str | Path | None = None) -> list[Row]:
    """Return the datalist rows of a data set, ordered by video and frame number.

    Args:
        root: the data set's folder, or one that holds it as its only data set.
        layout: name of the layout to expect; None recognises it.
        phases_dir: folder of Cholec80 `videoXX-phase.txt` files; None looks for them inside the data set. Videos
            without a file get the phase None.

    Raises:
        UserError: if the folder is missing, empty or laid out otherwise, or if a frame lacks its image or its mask.
    """
    _, folder, rows, findings = scan_layout(root, layout, phases_dir)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        hint = "`python -m lap_monai check` lists all defects"
        raise UserError(f"{folder / errors[0].where}: {errors[0].message}{more}; {hint}.")
    if not rows:
        raise UserError(f"dataset_dir {str(folder)!r} holds no frames; found {_describe(folder)}.")
    return rows


def read_cholecseg8k(root: str | Path, phases_dir: str | Path | None = None) -> list[Row]:
    """Return the datalist rows of CholecSeg8k; see `read_layout`."""
    return read_layout(root, "cholecseg8k", phases_dir)


def read_endoscapes(root: str | Path) -> list[Row]:
    """Return the datalist rows of Endoscapes-Seg50, each with its official `split`; see `read_layout`."""
    return read_layout(root, "endoscapes")


def read_dsad(root: str | Path, sources: Iterable[str] = ("organs",), rater: str | None = None) -> list[Row]:
    """Return the datalist rows of the Dresden Surgical Anatomy Dataset; see `read_layout` and `dsad.choose_rows`.

    By default those of the organs' folders: `multilabel` holds the frames of `stomach` once more. The official split is
    `apply_split(rows, "dsad")`.
    """
    return dsad.choose_rows(read_layout(root, "dsad"), sources, rater)


def _describe(root: Path, most: int = 4) -> str:
    """What a folder holds, in a few words."""
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
    if not names:
        return "an empty folder"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
