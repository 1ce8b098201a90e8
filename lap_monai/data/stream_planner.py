"""Planning a stream over a data set: dealing its frames to the steps, and refusing what would make results wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lap_monai.checks import UserError
from lap_monai.data.cache import FrameCache
from lap_monai.data.dealing import deal_patients
from lap_monai.data.dsad import choose_rows
from lap_monai.data.duplicates import FrameSignature, find_duplicates, sign_frame
from lap_monai.data.finding import Finding
from lap_monai.data.layout import Row, row_id
from lap_monai.data.layouts import find_layout, read_layout
from lap_monai.data.ordering import drawn_order, natural_key
from lap_monai.data.partial_labels import limit_knowledge, row_knowledge, weak_label_contradictions
from lap_monai.data.split import PARTS, Split
from lap_monai.data.splits import apply_split, folder_split, load_split, split_by_video
from lap_monai.data.stream_plan import FrameSet, StepPlan, StreamPlan
from lap_monai.data.streams import Stream
from lap_monai.keys import KNOWLEDGE, VIDEO
from lap_monai.task_stream import Knowledge

__all__ = ["open_stream", "plan_stream"]

#: (H, W) at which frames are compared; the perceptual hash looks at 32x32 of it. Pixels are counted at full size.
_SIGHT = (72, 128)


def open_stream(stream: Stream, root: str | Path, progress: bool = True) -> StreamPlan:
    """Read a data set and plan a stream over it.

    Every frame and mask is decoded once, into a small `FrameCache`; after that it is a matter of seconds.

    Raises:
        UserError: as `read_layout`, `FrameCache.build` and `plan_stream` do.
    """
    space = stream.label_space
    rows = read_layout(root, space.layout)
    if space.layout == "dsad":
        rows = choose_rows(rows, stream.sources)
    cache = FrameCache.build(rows, _SIGHT, progress=progress)
    signatures = [sign_frame(Image.fromarray(cache.image(i))) for i in range(len(cache))]
    folder = find_layout(root, space.layout)[1]
    return plan_stream(stream, rows, space.count_pixels(cache.histograms), signatures, folder)


def plan_stream(
    stream: Stream,
    rows: Sequence[Row],
    pixels: NDArray[np.int64],
    signatures: Sequence[FrameSignature | None],
    root: str | Path = ".",
) -> StreamPlan:
    """Deal the frames of a data set to the steps of a stream.

    Args:
        stream: what is wanted.
        rows: the data set.
        pixels: native pixels of each class of the label space in each row's mask, `(N, C)`.
        signatures: of each row's frame, None for a uniform one (`sign_frame`).
        root: the data set's folder, which messages name files in.

    Raises:
        UserError: if weak labels contradict a mask; a step gets no frame, or a class no pixel in its step; a patient
            that a step names does not train; the patients do not suffice; or the same picture is in two places, unless
            the stream drops it.
    """
    return _Planner(stream, rows, pixels, signatures, str(root)).plan()


class _Use(NamedTuple):
    """A row in a step, with the classes that are drawn in it there."""

    row: int
    step: int
    drawn: tuple[str, ...]


class _Planner:
    def __init__(
        self,
        stream: Stream,
        rows: Sequence[Row],
        pixels: NDArray[np.int64],
        signatures: Sequence[FrameSignature | None],
        root: str,
    ) -> None:
        self.stream, self.rows, self.root = stream, rows, root
        self.classes = stream.label_space.classes
        self.knowledge = np.array([row_knowledge(row, self.classes) for row in rows])
        self.pixels = np.where(self.knowledge == Knowledge.MASK, pixels, 0)
        self.raw_pixels = pixels
        self.step_of = {name: number for number, group in enumerate(stream.groups) for name in group}
        self.pairs = find_duplicates(signatures, [row[VIDEO] for row in rows])
        self.findings: list[Finding] = []

    def plan(self) -> StreamPlan:
        self._refuse_contradictions()
        split = self._split()
        part_of = [split.part_of(row[VIDEO]) for row in self.rows]
        dropped = self._dropped(part_of) if self.stream.repeated == "drop" else set()
        parts = {part: [i for i, at in enumerate(part_of) if at == part and i not in dropped] for part in PARTS}
        train = self._deal(parts["train"], self._patients(parts["train"]))
        val = [] if self.stream.evaluate == "val" else self._deal(parts["val"], None)
        arriving = [self.classes.index(name) for name in self.step_of]
        least = Knowledge.ABSENT if self.stream.weak_labels else Knowledge.MASK
        test = [i for i in parts[self.stream.evaluate] if (self.knowledge[i, arriving] >= least).any()]
        self._refuse_repeats(train, val, test)
        plan = StreamPlan(
            self.stream,
            split,
            tuple(
                StepPlan(task, self._frames(train, number), self._frames(val, number))
                for number, task in enumerate(self.stream.steps)
            ),
            self._test_frames(test),
            self.findings,
        )
        self._check(plan)
        return plan

    # --- what is refused ---------------------------------------------------------------------------------------------

    def _refuse_contradictions(self) -> None:
        found = weak_label_contradictions(self.rows, self.raw_pixels, self.classes, self.root)
        errors = [finding for finding in found if finding.severity == "error"]
        if errors and self.stream.weak_labels:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise UserError(f"{errors[0]}{more}; or write `weak_labels: false`.")

    def _refuse_repeats(self, train: Sequence[_Use], val: Sequence[_Use], test: Sequence[int]) -> None:
        """Pictures that several rows show must not be in different places."""
        places: dict[int, set[str]] = defaultdict(set)
        for uses, part in ((train, "train"), (val, "val")):
            for use in uses:
                places[use.row].add(f"step {use.step} {part}")
        for i in test:
            places[i].add(self.stream.evaluate)
        leaks = [
            pair for pair in self.pairs
            if places[pair.first] and places[pair.second]
            and len(places[pair.first] | places[pair.second]) > 1
        ]  # fmt: skip
        for exact in (True, False):
            found = [pair for pair in leaks if pair.exact is exact]
            if not found:
                continue
            one, other = found[0].first, found[0].second
            names = [f"{row_id(self.rows[i])} ({', '.join(sorted(places[i]))})" for i in (one, other)]
            more = f" (and {len(found) - 1} more pairs)" if len(found) > 1 else ""
            if exact:
                raise UserError(
                    f"frames {names[0]} and {names[1]} show the same picture{more}, which leaks from one into the "
                    "other; choose other `sources`, or write `repeated: drop` to use each picture once."
                )
            message = f"{names[0]} and {names[1]} look alike{more}; see whether they are one recording"
            self.findings.append(Finding("warning", "near-duplicate", "two places", message))
        self._note_reuse(places)

    def _note_reuse(self, places: dict[int, set[str]]) -> None:
        """Frames that serve several steps, as the overlapped protocol has it."""
        reused = [i for i, at in places.items() if sum("train" in place for place in at) > 1]
        if reused:
            message = f"serve several steps, {row_id(self.rows[reused[0]])} the first"
            self.findings.append(Finding("warning", "frames in several steps", f"{len(reused)} frames", message))

    def _dropped(self, part_of: Sequence[str | None]) -> set[int]:
        """Rows whose picture another row has that comes before them: in test, in val, or earlier in the data set."""
        rank = {"test": 0, "val": 1, "train": 2}
        dropped: set[int] = set()
        for pair in self.pairs:
            ends = [i for i in (pair.first, pair.second) if part_of[i] is not None]
            if pair.exact and len(ends) == 2:
                dropped.add(max(ends, key=lambda i: (rank[part_of[i] or "train"], i)))
        if dropped:
            first = row_id(self.rows[min(dropped)])
            message = f"dropped, since an earlier one shows the same picture, {first} the first"
            self.findings.append(Finding("warning", "repeated frames", f"{len(dropped)} frames", message))
        return dropped

    def _check(self, plan: StreamPlan) -> None:
        for number, step in enumerate(plan.steps):
            if not step.train.rows:
                raise UserError(
                    f"step {number} of stream {self.stream.name!r} has no training frame: protocol "
                    f"{self.stream.protocol!r} leaves none with {', '.join(step.task.new)}; choose another protocol."
                )
            counts = step.train.count(self.classes)
            for name in step.task.new:
                if not counts[name]["pixels"]:
                    raise UserError(
                        f"step {number} of stream {self.stream.name!r}: {name!r} has no pixel in its "
                        f"{len(step.train.rows)} training frames; choose another protocol, patients or order."
                    )
                if step.val.rows and not step.val.count(self.classes)[name]["pixels"]:
                    self._note_absent(name, f"step {number} val")
            if self.stream.evaluate != "val" and not step.val.rows:
                self.findings.append(Finding("warning", "nothing to choose by", f"step {number}", "no val frame"))
        if not plan.test.rows:
            raise UserError(
                f"stream {self.stream.name!r} has no frame to test on: split {plan.split.name!r} leaves "
                f"{self.stream.evaluate!r} empty; name another split, or write `evaluate: val`."
            )
        for name, count in plan.test.count(self.classes).items():
            if name in self.step_of and not count["pixels"]:
                self._note_absent(name, self.stream.evaluate)

    def _note_absent(self, name: str, where: str) -> None:
        self.findings.append(Finding("warning", "absent class", where, f"no pixel of {name}: no score there"))

    # --- who gets what -----------------------------------------------------------------------------------------------

    def _split(self) -> Split:
        wanted = self.stream.split
        if not isinstance(wanted, str):
            return split_by_video(self.rows, wanted, self.stream.seed)
        split = folder_split(self.rows) if wanted == "folders" else load_split(wanted)
        apply_split(self.rows, split)  # for what it warns of and refuses
        return split

    def _patients(self, rows: Sequence[int]) -> tuple[tuple[str, ...], ...] | None:
        """The training patients of each step; None if all serve all."""
        shows: dict[str, set[str]] = defaultdict(set)
        for i in rows:
            shows[self.rows[i][VIDEO]].update(self._shown(i))
        for number, group in enumerate(self.stream.assigned):
            for patient in group:
                if patient not in shows:
                    known = ", ".join(sorted(shows, key=natural_key))
                    raise UserError(
                        f"step {number} of stream {self.stream.name!r} names patient {patient!r}, who is none of the "
                        f"training patients: {known}."
                    )
        if self.stream.assigned:
            return self.stream.assigned
        if self.stream.patients == "shared":
            return None
        return deal_patients(shows, self.stream.groups, self.stream.seed)

    def _shown(self, i: int) -> list[str]:
        """The stream's classes that a row's mask shows, in the order of their ids."""
        return [self.classes[c] for c in np.flatnonzero(self.pixels[i]) if self.classes[c] in self.step_of]

    def _deal(self, rows: Sequence[int], patients: tuple[tuple[str, ...], ...] | None) -> list[_Use]:
        """Which rows serve which steps. `patients` of each step, or None if all may serve any."""

        def open_steps(i: int) -> set[int]:
            numbers = range(len(self.stream.groups))
            return {n for n in numbers if patients is None or self.rows[i][VIDEO] in patients[n]}

        if self.stream.protocol == "one_organ_per_frame":
            return sorted(self._one_class_each(rows, open_steps))
        uses = []
        for i in rows:
            arrive = {self.step_of[name] for name in self._shown(i)}
            if self.stream.protocol != "overlapped" and arrive:
                arrive = {max(arrive)}
            uses += [_Use(i, number, self._drawn(number)) for number in sorted(arrive & open_steps(i))]
        return uses

    def _drawn(self, number: int) -> tuple[str, ...]:
        task = self.stream.steps[number]
        return task.seen if self.stream.protocol == "sequential" else task.new

    def _one_class_each(self, rows: Sequence[int], open_steps: Callable[[int], set[int]]) -> Iterator[_Use]:
        """Give each frame to the class among those it shows that has the fewest so far, in a drawn order."""
        taken = dict.fromkeys(self.step_of, 0)
        by_id = {row_id(self.rows[i]): i for i in rows}
        for name in drawn_order(by_id, "one_organ_per_frame", self.stream.seed):
            i = by_id[name]
            able = [shown for shown in self._shown(i) if self.step_of[shown] in open_steps(i)]
            if able:
                chosen = min(able, key=lambda shown: taken[shown])
                taken[chosen] += 1
                yield _Use(i, self.step_of[chosen], (chosen,))

    def _frames(self, uses: Sequence[_Use], number: int) -> FrameSet:
        chosen = [use for use in uses if use.step == number]
        known = [
            limit_knowledge(self.knowledge[use.row], self.classes, use.drawn, self.stream.weak_labels) for use in chosen
        ]
        return self._frame_set([use.row for use in chosen], known)

    def _test_frames(self, rows: Sequence[int]) -> FrameSet:
        known = [limit_knowledge(self.knowledge[i], self.classes, self.classes, self.stream.weak_labels) for i in rows]
        return self._frame_set(rows, known)

    def _frame_set(self, rows: Sequence[int], knowledge: Sequence[NDArray[np.uint8]]) -> FrameSet:
        vectors = np.array(knowledge, np.uint8).reshape(-1, len(self.classes))
        pixels = np.where(vectors == Knowledge.MASK, self.pixels[list(rows)], 0)
        # Image-level labels that the stream may not use go, presence too.
        forgotten: dict[str, Any] = {} if self.stream.weak_labels else {"presence": {}}
        told = [
            {**self.rows[i], **forgotten, KNOWLEDGE: vector.tolist()} for i, vector in zip(rows, vectors, strict=True)
        ]
        return FrameSet(told, pixels)
