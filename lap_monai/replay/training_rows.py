"""Synthetic images as a training takes them: what the manifest names, audited, of a generator that did not copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lap_monai.checks import UserError
from lap_monai.data import Row
from lap_monai.keys import FRAME, LABEL
from lap_monai.replay.synthetic_set import SyntheticSet
from lap_monai.replay.teacher_labels import file_sha256, label_file

#: Share of memorised images above which a generator counts as one that copies.
MOST_MEMORISED = 0.1
#: Share of planted copies, of each disguise, that an audit must have caught for its silence to mean anything.
LEAST_CAUGHT = 0.9


def replay_rows(
    folders: Sequence[str | Path],
    accept_unaudited: bool = False,
    most_memorised: float = MOST_MEMORISED,
) -> list[Row]:
    """Return the datalist rows of the kept images of synthetic sets, without masks.

    Args:
        folders: of the sets.
        accept_unaudited: take sets that were not audited, or whose audit failed.
        most_memorised: share of memorised images from which on an audit counts as failed, dropped though they are: the
            generator that copies so many is not to be trusted with the others.

    Raises:
        UserError: if there is no set, or one is missing, holds other images than its manifest says, was not audited,
            failed its audit, or has no image left.
    """
    if not folders:
        raise UserError("No synthetic set: give synthetic_sets the folders of earlier steps' sets, or drop the replay.")
    return [row for folder in folders for row in _kept_rows(_opened(folder, accept_unaudited, most_memorised))]


def synthetic_rows(
    folder: str | Path, accept_unaudited: bool = False, most_memorised: float = MOST_MEMORISED
) -> list[Row]:
    """Return the datalist rows of a set's kept images with the teacher's label maps as masks.

    The masks hold class ids: read them in `LabelSpace.of_class_ids()`.

    Args:
        folder: of the set.
        accept_unaudited: take a set that was not audited, or whose audit failed.
        most_memorised: see `replay_rows`.

    Raises:
        UserError: as `replay_rows`, and if an image has no label, or another one than its audit left.
    """
    synthetic = _opened(folder, accept_unaudited, most_memorised)
    left = ((synthetic.audit or {}).get("labels") or {}).get("sha256") or {}
    rows = _kept_rows(synthetic)
    for row in rows:
        label = synthetic.folder / label_file(synthetic.images[row[FRAME]])
        if not label.is_file():
            raise UserError(
                f"Image {row[FRAME]} of the synthetic set {str(folder)!r} has no teacher's label; run audit.json on it."
            )
        expected = left.get(str(row[FRAME]), {}).get("label")
        if expected is not None and file_sha256(label) != expected:
            raise UserError(f"{str(label)!r} is not the label that the set's audit left; run audit.json on the set.")
        row[LABEL] = str(label.absolute())
    return rows


def _opened(folder: str | Path, accept_unaudited: bool, most_memorised: float) -> SyntheticSet:
    synthetic = SyntheticSet.open(folder)
    synthetic.verify()
    if not accept_unaudited:
        _refuse_unaudited(synthetic, most_memorised)
    return synthetic


def _kept_rows(synthetic: SyntheticSet) -> list[Row]:
    rows = synthetic.rows()
    if not rows:
        raise UserError(
            f"All images of the synthetic set {str(synthetic.folder)!r} are dropped; generate others, or look at why."
        )
    return rows


def _refuse_unaudited(synthetic: SyntheticSet, most_memorised: float) -> None:
    name, remedy = repr(str(synthetic.folder)), "or set accept_unaudited to true"
    if synthetic.audit is None:
        raise UserError(f"The synthetic set {name} was not audited; audit it, {remedy}.")
    found = synthetic.audit["memorisation"]
    share = float(found["share"])
    if share > most_memorised:
        raise UserError(
            f"The audit of the synthetic set {name} failed: {share:.0%} of its images are copies of "
            f"training frames (at most {most_memorised:.0%}); train another generator, {remedy}."
        )
    missed = {disguise: caught for disguise, caught in found.get("planted_caught", {}).items() if caught < LEAST_CAUGHT}
    if missed:
        disguise, caught = min(missed.items(), key=lambda item: item[1])
        raise UserError(
            f"The audit of the synthetic set {name} failed: of planted copies ({disguise}) it caught {caught:.0%}, so "
            f"its silence means nothing; audit with other held-out patients or a higher level, {remedy}."
        )
