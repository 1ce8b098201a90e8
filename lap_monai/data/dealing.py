"""Dealing patients to the steps of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from lap_monai.checks import UserError
from lap_monai.data.ordering import drawn_order, natural_key


def deal_patients(
    shows: Mapping[str, AbstractSet[str]], groups: Sequence[Sequence[str]], seed: int
) -> tuple[tuple[str, ...], ...]:
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
    step_of: dict[str, int] = {}

    def covered(step: int) -> set[str]:
        return {name for patient, at in step_of.items() if at == step for name in shows[patient]}

    places = [(name, step) for step, group in enumerate(groups) for name in group]
    places.sort(key=lambda place: sum(place[0] in shown for shown in shows.values()))
    for name, step in places:
        missing = set(groups[step]) - covered(step)
        if name not in missing:
            continue
        free = [patient for patient in order if patient not in step_of and name in shows[patient]]
        if not free:
            showing = sorted((patient for patient in shows if name in shows[patient]), key=natural_key)
            raise UserError(
                f"step {step}: no training patient is left to show {name!r}, which "
                f"{', '.join(showing) if showing else 'nobody'} shows; write `patients: shared`, or make fewer steps."
            )
        step_of[max(free, key=lambda patient: len(missing & shows[patient]))] = step  # the first of equals
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
