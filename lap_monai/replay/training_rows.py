"""Synthetic images as a training takes them: audited, and of a generator that did not copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lap_monai.checks import UserError
from lap_monai.data import Row
from lap_monai.replay.synthetic_set import SyntheticSet

#: Share of memorised images above which a generator counts as one that copies.
MOST_MEMORISED = 0.1


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
        UserError: if there is no set, or one is missing, was not audited, failed its audit, or has no image left.
    """
    if not folders:
        raise UserError("No synthetic set: give synthetic_sets the folders of earlier steps' sets, or drop the replay.")
    rows: list[Row] = []
    for folder in folders:
        synthetic = SyntheticSet.open(folder)
        if not accept_unaudited:
            _refuse_unaudited(synthetic, most_memorised)
        kept = synthetic.rows()
        if not kept:
            raise UserError(f"All images of the synthetic set {str(folder)!r} are dropped; generate others.")
        rows += kept
    return rows


def _refuse_unaudited(synthetic: SyntheticSet, most_memorised: float) -> None:
    remedy = "or set accept_unaudited to true"
    if synthetic.audit is None:
        raise UserError(f"The synthetic set {str(synthetic.folder)!r} was not audited; audit it, {remedy}.")
    share = float(synthetic.audit["memorisation"]["share"])
    if share > most_memorised:
        raise UserError(
            f"The audit of the synthetic set {str(synthetic.folder)!r} failed: {share:.0%} of its images are copies of "
            f"training frames (at most {most_memorised:.0%}); train another generator, {remedy}."
        )
