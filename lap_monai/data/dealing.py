"""Dealing patients to the steps of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from lap_monai.checks import UserError
from lap_monai.data.ordering import drawn_order, natural_key

Shows = Mapping[str, AbstractSet[str]]
Groups = Sequence[Sequence[str]]


def deal_patients(shows: Shows, groups: Groups, seed: int) -> tuple[tuple[str, ...], ...]:
    """Give each step patients of its own, so that each of its classes is shown by one of them at least.

    Classes that few patients show are served first. The remaining patients go, in an order drawn by the seed, to the
    step that is owed most, in proportion to its number of classes, among those to whose classes they have something to
    show; who shows none of the stream's classes is left out.

    Args:
        shows: patient → the classes that the patient's frames show.
        groups: the new classes of each step.
        seed: which draw.

    Returns:
        The patients of each step, in natural order.

    Raises:
        UserError: if the patients do not suffice, with the class that goes without.
    """
    order = drawn_order(shows, "stream", seed)
    try:
        step_of = _serve_rare_first(shows, groups, order)
    except UserError:
        step_of = _one_for_each_class(shows, groups, order)
        if not step_of:
            raise
    for patient in order:
        wanting = [step for step, group in enumerate(groups) if shows[patient] & set(group)]
        if patient in step_of or not wanting:
            continue
        held = [sum(at == step for at in step_of.values()) for step in range(len(groups))]
        step_of[patient] = min(wanting, key=lambda step: held[step] / len(groups[step]))
    return tuple(
        tuple(sorted((patient for patient, at in step_of.items() if at == step), key=natural_key))
        for step in range(len(groups))
    )


def _serve_rare_first(shows: Shows, groups: Groups, order: Sequence[str]) -> dict[str, int]:
    """Patient → step, of as few patients as cover all classes; a greedy choice, which may miss that it can be done."""
    step_of: dict[str, int] = {}
    places = [(name, step) for step, group in enumerate(groups) for name in group]
    places.sort(key=lambda place: sum(place[0] in shown for shown in shows.values()))
    for name, step in places:
        covered = {shown for patient, at in step_of.items() if at == step for shown in shows[patient]}
        missing = set(groups[step]) - covered
        if name not in missing:
            continue
        free = [patient for patient in order if patient not in step_of and name in shows[patient]]
        if not free:
            showing = sorted((patient for patient in shows if name in shows[patient]), key=natural_key)
            who = f"{', '.join(showing)} show" if len(showing) > 1 else f"{showing[0] if showing else 'nobody'} shows"
            raise UserError(
                f"step {step}: no training patient is left to show {name!r}, which {who}; "
                "write `patients: shared`, or make fewer steps."
            )
        step_of[max(free, key=lambda patient: len(missing & shows[patient]))] = step  # the first of equals
    return step_of


def _one_for_each_class(shows: Shows, groups: Groups, order: Sequence[str]) -> dict[str, int]:
    """Patient → step, one patient for each class, if that can be done at all; else nothing."""
    places = [(name, step) for step, group in enumerate(groups) for name in group]
    fits = np.array([[name in shows[patient] for patient in order] for name, _ in places], dtype=bool)
    matched = maximum_bipartite_matching(csr_array(fits.reshape(len(places), len(order))), perm_type="column")
    if (matched < 0).any():
        return {}
    return {order[column]: step for column, (_, step) in zip(matched, places, strict=True)}
