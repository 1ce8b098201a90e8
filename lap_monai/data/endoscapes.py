"""Endoscapes-Seg50: `train|val|test/<video>_<frame>.jpg` and `semseg/<video>_<frame>.png`."""

from __future__ import annotations

import re
from pathlib import Path

from lap_monai import keys
from lap_monai.checks import UserError
from lap_monai.data.finding import Finding
from lap_monai.data.layout import Layout, Row
from lap_monai.data.ordering import natural_key
from lap_monai.files import read_json

_SPLITS = ("train", "val", "test")
_MASKS = "semseg"
_MANIFEST = "frames.json"
_NAME = re.compile(r"(\d+)_(\d+)\.(?:jpg|png)")


def matches(root: Path) -> bool:
    """Whether `root` holds a `semseg` folder and a split folder with frames, as Endoscapes-Seg50 does."""
    return (root / _MASKS).is_dir() and any(_frames(folder) for _, folder in _split_folders(root))


def scan(root: Path, phases_dir: Path | None = None) -> tuple[list[Row], list[Finding]]:
    """List the frames that have a mask, by split, video and frame number; see `Layout.scan`.

    The full publication holds many frames without masks. They are no part of Endoscapes-Seg50 and left out, unless
    `frames.json` lists them: then their masks are missing. The data set has no phases.
    """
    listed = _listed(root)
    masks = {path.stem: path for _, _, path in _frames(root / _MASKS)}
    rows: list[Row] = []
    findings: list[Finding] = []
    for split, folder in _split_folders(root):
        spare = []
        for video, frame, path in _frames(folder):
            mask = masks.pop(path.stem, None)
            if mask is None and path.stem not in listed:
                spare.append(path.name)
                continue
            rows.append(_row(split, video, frame, path, mask))
            listed.discard(path.stem)
            if mask is None:
                message = f"missing, but {path.relative_to(root)} is there; restore the mask or delete the frame"
                findings.append(Finding("error", "missing mask", f"{_MASKS}/{path.stem}.png", message))
        if spare:
            message = f"{len(spare)} frames have no mask in {_MASKS}/ and are left out, {spare[0]} the first"
            findings.append(Finding("warning", "frames without mask", folder.name, message))
    folders = ", ".join(f"{folder.name}/" for _, folder in _split_folders(root))
    for name in sorted(listed, key=natural_key):
        message = f"listed in {_MANIFEST}, but not in {folders}; restore the frame"
        findings.append(Finding("error", "missing frame", f"{name}.jpg", message))
    for name in sorted(set(masks) - listed, key=natural_key):
        message = f"has no frame in {folders} and is left out"
        findings.append(Finding("warning", "mask without frame", f"{_MASKS}/{name}.png", message))
    return rows, findings


def _listed(root: Path) -> set[str]:
    """Names of the frames in `frames.json`, which a copy of the data set may have."""
    try:
        names = set(read_json(root / _MANIFEST))
    except FileNotFoundError:
        return set()
    except (ValueError, TypeError) as error:
        raise UserError(f"{root / _MANIFEST} is no JSON object with an entry a frame: {error}.") from None
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{root / _MANIFEST} is no JSON object with an entry a frame; restore or delete it.")
    return names


def _row(split: str, video: int, frame: int, path: Path, mask: Path | None) -> Row:
    return {
        keys.IMAGE: str(path.absolute()),
        keys.LABEL: None if mask is None else str(mask.absolute()),
        keys.VIDEO: str(video),
        # Frames are 30 s apart: each is a run of its own.
        keys.CLIP: f"{video}_{frame:05d}",
        keys.FRAME: frame,
        keys.PHASE: None,
        "split": split,
    }


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    """Split → its folder. The full publication keeps the frames that have masks in `train_seg` and so on."""
    found = []
    for split in _SPLITS:
        folders = (root / f"{split}_seg", root / split)
        found += [(split, folder) for folder in folders if folder.is_dir()][:1]
    return found


def _frames(folder: Path) -> list[tuple[int, int, Path]]:
    """(video, frame, path) of each image in a folder, in the order of the numbers."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), int(match[2]), path) for match, path in named if match)


LAYOUT = Layout(
    name="endoscapes",
    expected="train/<video>_<frame>.jpg (also val/, test/) with semseg/<video>_<frame>.png",
    label_space="endoscapes_7",
    matches=matches,
    scan=scan,
)
