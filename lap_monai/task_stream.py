"""The vocabulary of class-incremental learning: which classes a step knows, and what a frame's labels say of each.

*Classes* are ids of a data set's label space, 0 being the background. *Channels* are the outputs of a step's network:
background, then the classes in the order of their arrival. `TaskStep` turns one into the other, so that nobody slices
channels by counting.

A label map alone does not say what its background means: in a frame of which only the liver was annotated, a pixel
outside the liver may be a stomach. So every frame carries a **knowledge vector**, one `Knowledge` a class (or channel).
The two together give each pixel its *candidates*, the classes that it may be of:

| label map | candidates |
|---|---|
| 255 | all: the pixel counts nowhere |
| a class | that class alone; structures do not overlap, so all others are known not to be there |
| 0 | background, and every class that is `UNKNOWN` in this frame |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lap_monai.checks import UserError, require_choice
from lap_monai.keys import IGNORE_INDEX

#: A NumPy array or a torch tensor; this module needs neither torch nor its second of loading.
Ids = TypeVar("Ids")


class Knowledge(IntEnum):
    """What a frame's annotation says of a class. As a vector: `uint8 (C,)`, one entry a class (or channel)."""

    #: Nothing, where the label map has no class: such a pixel may be of this one.
    UNKNOWN = 0
    #: The class is nowhere in the frame, as an image-level label says; nobody drew it.
    ABSENT = 1
    #: The class was drawn: it is where the label map has it and nowhere else.
    MASK = 2


def complete_knowledge(knowledge: ArrayLike) -> NDArray[np.uint8]:
    """Return a knowledge vector `(C,)` whose entry of the background (0) follows from the others.

    The background is `MASK` where every other class is known, since 0 in the label map then means just that, and
    `UNKNOWN` otherwise.
    """
    vector = np.array(knowledge, dtype=np.uint8)
    vector[0] = Knowledge.UNKNOWN if (vector[1:] == Knowledge.UNKNOWN).any() else Knowledge.MASK
    return vector


@dataclass(frozen=True)
class TaskStep:
    """One step of a stream of classes: what the network knew before, what it learns now.

    Args:
        classes: all classes of the label space in the order of their ids; the first is the background.
        old: classes of the earlier steps, in the order of their arrival; empty in the first step.
        new: classes that this step brings; may be empty, as for a step that only brings further patients.

    Raises:
        UserError: if a class is unknown, is the background, or is named twice; or if there is none at all.

    Examples:
        >>> step = TaskStep(("background", "colon", "liver", "ureter"), old=("ureter",), new=("colon",))
        >>> step.channels
        ('background', 'ureter', 'colon')
        >>> step.to_channels(np.array([0, 1, 2, 3, 255], np.uint8)).tolist()  # liver has no channel yet
        [0, 2, 255, 1, 255]
    """

    classes: tuple[str, ...]
    old: tuple[str, ...]
    new: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("classes", "old", "new"):  # lists, as JSON configs have them
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.seen:
            raise UserError("a step of a stream names no class, neither old nor new; give it one at least.")
        check_distinct(self.seen, self.classes)

    @property
    def seen(self) -> tuple[str, ...]:
        """Old and new classes, in the order of their arrival."""
        return self.old + self.new

    @property
    def channels(self) -> tuple[str, ...]:
        """What each output channel stands for: the background, then `seen`."""
        return (self.classes[0], *self.seen)

    @property
    def num_channels(self) -> int:
        """Output channels of this step's network."""
        return 1 + len(self.seen)

    @property
    def old_channels(self) -> tuple[int, ...]:
        """Channels of the old classes, without the background."""
        return tuple(range(1, 1 + len(self.old)))

    @property
    def new_channels(self) -> tuple[int, ...]:
        """Channels of the new classes."""
        return tuple(range(1 + len(self.old), self.num_channels))

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """Class id of each channel."""
        return tuple(self.classes.index(name) for name in self.channels)

    @property
    def previous(self) -> TaskStep | None:
        """The classes of the network that this step starts from, as a step without new ones; None in the first."""
        return TaskStep(self.classes, self.old, ()) if self.old else None

    def to_channels(self, label: Ids, unseen: str = "ignore") -> Ids:
        """Turn class ids into channel numbers.

        Args:
            label: class ids, any shape; a NumPy array of any integer type, or a torch tensor.
            unseen: what becomes of classes that are neither old nor new: `"ignore"` (255) or `"background"` (0).

        Returns:
            Channel numbers, of the same kind, shape, device and type; 255 stays 255.
        """
        fill = {"ignore": IGNORE_INDEX, "background": 0}[require_choice(unseen, ("ignore", "background"), "unseen")]
        table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        table[: len(self.classes)] = fill
        table[list(self.ids)] = np.arange(self.num_channels)
        return _look_up(table, label)

    def to_classes(self, channels: Ids) -> Ids:
        """Turn channel numbers, as `argmax` gives them, into class ids; the inverse of `to_channels`."""
        table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        table[: self.num_channels] = self.ids
        return _look_up(table, channels)

    def knowledge_of_channels(self, knowledge: ArrayLike) -> NDArray[np.uint8]:
        """Turn a knowledge vector of classes, `(len(classes),)`, into one of channels, `(num_channels,)`.

        Classes without a channel count as background here, so they no longer make it unknown.
        """
        return complete_knowledge(np.asarray(knowledge, dtype=np.uint8)[list(self.ids)])


def task_steps(classes: Sequence[str], groups: Iterable[Iterable[str]]) -> tuple[TaskStep, ...]:
    """Return the steps of a stream that brings one group of classes after the other.

    Args:
        classes: all classes of the label space in the order of their ids; the first is the background.
        groups: the new classes of each step.

    Raises:
        UserError: if a group is empty, or a class is unknown, is the background, or is named twice.
    """
    steps: list[TaskStep] = []
    old: tuple[str, ...] = ()
    for number, group in enumerate(groups):
        new = tuple(group)
        if not new:
            raise UserError(f"step {number} of the stream names no class; give it one at least.")
        steps.append(TaskStep(tuple(classes), old, new))
        old += new
    return tuple(steps)


def check_distinct(names: Sequence[str], classes: Sequence[str]) -> None:
    """Check names of foreground classes.

    Raises:
        UserError: if one is no class, is the background, or is named twice.
    """
    for name in names:
        require_choice(name, classes, "class")
    if classes[0] in names:
        raise UserError(f"{classes[0]!r} is the background, which every step has; drop it from the classes of a step.")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"class {twice[0]!r} is named twice in the stream; a class arrives once.")


def _look_up(table: NDArray[np.uint8], ids: Any) -> Any:
    if isinstance(ids, np.ndarray):
        return table[ids].astype(ids.dtype)
    return ids.new_tensor(table.tolist())[ids.long()]
