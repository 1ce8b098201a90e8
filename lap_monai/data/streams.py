"""What a class-incremental stream is: which classes arrive when, and what each step may see."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from lap_monai.checks import UserError, require_choice
from lap_monai.data.dsad import SOURCES
from lap_monai.data.split import PARTS
from lap_monai.label_space import LabelSpace
from lap_monai.task_stream import TaskStep, task_steps

#: Protocol → which frames a step gets, and which of their classes are drawn in them.
PROTOCOLS = {
    "sequential": "frames whose classes have all arrived and of which one is new; old and new classes drawn",
    "disjoint": "frames whose classes have all arrived and of which one is new; new classes drawn",
    "overlapped": "frames that show a new class, so one frame may serve several steps; new classes drawn",
    "one_organ_per_frame": "frames that show a new class, each serving one class only, which alone is drawn",
}

#: Whether the training patients are dealt to the steps or may come back.
PATIENTS = ("disjoint", "shared")


@dataclass(frozen=True)
class Stream:
    """A stream of classes over one data set.

    Args:
        name: what results call it.
        label_space: of the data set; its first class is the background.
        groups: the new classes of each step.
        protocol: one of `PROTOCOLS`. Sequential, disjoint and overlapped are those of Cermelli et al. 2020 and Michieli
            and Zanuttigh 2019; the last is how DSAD was annotated.
        patients: one of `PATIENTS`.
        assigned: the training patients of each step; none: they are dealt by `seed`.
        split: name or file of a split, `"folders"` for the data set's own, or three shares to draw one.
        evaluate: part that is tested after every step, `"test"` or `"val"`. With the latter no frames are left to
            choose a model by.
        sources: of DSAD: the organs' folders, `multilabel`, or both.
        weak_labels: whether image-level labels count as knowledge of absence.
        repeated: what happens to frames that show the same picture in two places: `"refuse"` them, or `"drop"` all but
            one, in the order test, val, earlier row.
        seed: of the dealing and of a drawn split.
        description: for people.

    Raises:
        UserError: if a class is unknown or named twice, a step has none, or a patient is in two steps of a stream whose
            patients are to be disjoint.
    """

    name: str
    label_space: LabelSpace
    groups: tuple[tuple[str, ...], ...]
    protocol: str
    patients: str = "disjoint"
    assigned: tuple[tuple[str, ...], ...] = ()
    split: str | tuple[float, ...] = "folders"
    evaluate: str = "test"
    sources: tuple[str, ...] = ("organs",)
    weak_labels: bool = True
    repeated: str = "refuse"
    seed: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        require_choice(self.protocol, PROTOCOLS, "protocol")
        require_choice(self.patients, PATIENTS, "patients")
        require_choice(self.evaluate, PARTS[1:], "evaluate")
        require_choice(self.repeated, ("refuse", "drop"), "repeated")
        for source in self.sources:
            require_choice(source, SOURCES, "source")
        if not self.groups:
            raise UserError("a stream has at least one step; list the classes of each under `steps`.")
        self._check_patients()
        self.steps  # noqa: B018  (names of classes are checked as the steps are made)

    @cached_property
    def steps(self) -> tuple[TaskStep, ...]:
        """What each step knows and learns."""
        return task_steps(self.label_space.classes, self.groups)

    def _check_patients(self) -> None:
        if not self.assigned:
            return
        if len(self.assigned) != len(self.groups) or not all(self.assigned):
            raise UserError("some steps name their patients and some do not; name those of all steps, or of none.")
        counts = Counter(patient for group in self.assigned for patient in set(group))
        twice = [patient for patient, count in counts.items() if count > 1]
        if twice and self.patients == "disjoint":
            steps = [str(number) for number, group in enumerate(self.assigned) if twice[0] in group]
            raise UserError(
                f"patient {twice[0]!r} is in steps {' and '.join(steps)}, but patients are to be disjoint; "
                "name each once, or write `patients: shared`."
            )
