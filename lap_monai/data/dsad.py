"""Dresden Surgical Anatomy Dataset: `<organ>/<NN>/imageMM.png` with `maskMM.png`, and `multilabel/`.

NN is the surgery (patient), MM the frame, counted anew in each folder. A folder of an organ annotates that organ alone;
`multilabel` annotates several, on the very frames of `stomach`. So each row says what was looked for:

| key | value |
|---|---|
| `label` | mask file → raw value, one file an organ (`lap_monai.data.read_label`) |
| `annotated` | the classes that were drawn where they are; of all others the mask says nothing |
| `presence` | class → whether `weak_labels.csv` says that it is in the frame; empty without that file |
| `source` | `"organs"` or `"multilabel"` |
| `id` | `<NN>_<folder>_<MM>`, unique in the data set |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lap_monai import keys
from lap_monai.checks import UserError, require_choice
from lap_monai.data.finding import Finding
from lap_monai.data.layout import Layout, Row
from lap_monai.data.weak_labels import WEAK_LABELS, read_weak_labels
from lap_monai.label_space import get_label_space

_SPACE = get_label_space("dsad_11")

#: The organs, which are folders and classes by the same names.
ORGANS = _SPACE.classes[1:]

#: What `multilabel` annotates. A mask file is there for each organ that is visible.
MULTILABEL_ORGANS = ("abdominal_wall", "colon", "liver", "pancreas", "small_intestine", "spleen", "stomach")

MULTILABEL = "multilabel"

#: Where a row comes from.
SOURCES = ("organs", MULTILABEL)

#: Folders beside the frames that hold other versions of the masks: of each rater, and their consensus.
RATERS = ("anno_1", "anno_2", "anno_3", "merged")

_VALUES = {_SPACE.classes[index]: value for value, index in _SPACE.values.items() if index}
_IMAGE = re.compile(r"image(\d+)\.png")
_MASK = re.compile(r"mask(\d+)(?:_(\w+))?\.png")
_PATIENT = re.compile(r"\d+")


def matches(root: Path) -> bool:
    """Whether `root` holds `<organ>/<NN>/imageMM.png`, as DSAD does."""
    return any(_IMAGE.fullmatch(path.name) for _, folder in _patients(root) for path in folder.iterdir())


def scan(root: Path, phases_dir: Path | None = None) -> tuple[list[Row], list[Finding]]:
    """List the frames by patient, folder and number; see `Layout.scan`. The data set has no phases."""
    rows: list[Row] = []
    findings: list[Finding] = []
    folders = sorted(_patients(root), key=lambda entry: (int(entry[1].name), _order(entry[0])))
    for name, folder in folders:
        found, wrong = _scan_folder(root, name, folder)
        rows += found
        findings += wrong
    return rows, findings


def choose_rows(rows: Sequence[Row], sources: Iterable[str] = SOURCES, rater: str | None = None) -> list[Row]:
    """Choose among the rows of this data set.

    Args:
        rows: of `read_layout`.
        sources: `"organs"`, `"multilabel"` or both. Both hold the frames of `stomach` twice, which a stream refuses.
        rater: whose masks to take, one of `RATERS`; None for the final ones.

    Returns:
        Copies of the rows of the sources, with the rater's masks.

    Raises:
        UserError: if a source or rater is unknown, or a frame lacks that rater's mask.
    """
    wanted = {require_choice(source, SOURCES, "source") for source in sources}
    chosen = [dict(row) for row in rows if row["source"] in wanted]
    if rater is not None:
        require_choice(rater, RATERS, "rater")
        for row in chosen:
            row[keys.LABEL] = {_of_rater(path, rater): value for path, value in (row[keys.LABEL] or {}).items()}
    return chosen


def _of_rater(path: str, rater: str) -> str:
    file = Path(path)
    other = file.parent / rater / file.name
    if not other.is_file():
        raise UserError(f"mask {str(other)!r} does not exist; take the final masks, or another rater.")
    return str(other)


def _patients(root: Path) -> Iterable[tuple[str, Path]]:
    """(folder, its sub-folder) of each patient, in any order."""
    for name in (*ORGANS, MULTILABEL):
        parent = root / name
        if parent.is_dir():
            yield from ((name, path) for path in parent.iterdir() if _PATIENT.fullmatch(path.name) and path.is_dir())


def _order(name: str) -> int:
    return (*ORGANS, MULTILABEL).index(name)


def _scan_folder(root: Path, name: str, folder: Path) -> tuple[list[Row], list[Finding]]:
    """Rows and findings of one organ, or of the multi-label frames, of one patient."""
    images: dict[int, Path] = {}
    masks: dict[int, dict[str, int]] = {}
    findings: list[Finding] = []
    for path in sorted(folder.iterdir()):
        if image := _IMAGE.fullmatch(path.name):
            images[int(image[1])] = path
        elif mask := _MASK.fullmatch(path.name):
            organ = mask[2] if name == MULTILABEL else (name if mask[2] is None else None)
            if organ in _VALUES:
                masks.setdefault(int(mask[1]), {})[str(path.absolute())] = _VALUES[organ]
            else:
                message = "is left out: its name says no organ that this folder annotates"
                findings.append(Finding("warning", "unknown mask", str(path.relative_to(root)), message))
    presence, wrong = read_weak_labels(folder / WEAK_LABELS, images, ORGANS, root)
    findings += wrong
    rows = []
    for number, path in sorted(images.items()):
        label = masks.pop(number, {} if name == MULTILABEL else None)
        if label is None:
            where = str(path.with_name(path.name.replace("image", "mask")).relative_to(root))
            message = f"missing, but {path.name} is there; restore the mask or delete the frame"
            findings.append(Finding("error", "missing mask", where, message))
        rows.append(_row(name, folder, number, path, label, presence.get(number, {})))
    for label in masks.values():
        for orphan in label:
            message = "has no frame; restore the frame or delete the mask"
            findings.append(Finding("error", "missing frame", str(Path(orphan).relative_to(root.absolute())), message))
    if not rows:
        findings.append(Finding("warning", "empty folder", str(folder.relative_to(root)), "holds no imageMM.png"))
    return rows, findings


def _row(
    name: str, folder: Path, number: int, image: Path, label: dict[str, int] | None, presence: dict[str, bool]
) -> Row:
    drawn = {_SPACE.classes[_SPACE.values[value]] for value in (label or {}).values()}
    looked_for = drawn | set(MULTILABEL_ORGANS) if name == MULTILABEL else drawn
    return {
        keys.IMAGE: str(image.absolute()),
        keys.LABEL: label,
        keys.VIDEO: folder.name,
        keys.CLIP: f"{name}/{folder.name}",
        keys.FRAME: number,
        keys.PHASE: None,
        "id": f"{folder.name}_{name}_{number:02d}",
        "source": MULTILABEL if name == MULTILABEL else "organs",
        "annotated": [organ for organ in ORGANS if organ in looked_for],
        "presence": presence,
    }


LAYOUT = Layout(
    name="dsad",
    expected="<organ>/<NN>/imageMM.png with maskMM.png, organ such as liver or ureter",
    label_space=_SPACE.name,
    matches=matches,
    scan=scan,
)
