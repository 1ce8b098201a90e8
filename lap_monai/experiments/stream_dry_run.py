"""What a stream would learn from, as a text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from lap_monai.data.stream_plan import FrameSet, StreamPlan

_WIDTH = 98


def stream_dry_run(plan: StreamPlan) -> Iterator[str]:
    """Yield the lines of a table of frames, patients and pixels per class and step, and what is to be known of it."""
    stream = plan.stream
    dealt = "" if stream.patients == "shared" or stream.assigned else f" (dealt with seed {stream.seed})"
    yield f"{stream.name}: {len(plan.steps)} steps over {stream.label_space.name}, {stream.protocol}"
    yield f"patients {stream.patients}{dealt}, split {plan.split.name}, tested on {stream.evaluate}"
    width = max(len(name) for name in stream.label_space.classes)
    for number, step in enumerate(plan.steps):
        yield ""
        yield f"step {number}: {len(step.task.new)} new, {len(step.task.old)} old"
        yield from _who("train", step.train)
        if step.val.rows:
            yield from _who("val", step.val)
        yield from _table(step.train, step.val, step.task.new, step.task.old, stream.label_space.classes, width)
    yield ""
    yield f"after every step, {stream.evaluate}:"
    yield from _who(stream.evaluate, plan.test)
    yield from _table(plan.test, None, plan.steps[-1].task.seen, (), stream.label_space.classes, width)
    yield ""
    if plan.findings:
        yield f"To be known: {len(plan.findings)}"
        for finding in plan.findings:
            yield from textwrap.wrap(str(finding), _WIDTH, initial_indent="  ", subsequent_indent="    ")
    yield "No leak: no picture in two places" + (
        ", no patient in two steps." if stream.patients == "disjoint" else f"; {_returning(plan)}."
    )


def _who(part: str, frames: FrameSet) -> Iterator[str]:
    of = f"patient{'' if len(frames.patients) == 1 else 's'}"
    text = f"{part}: {len(frames.rows):,} frames of {len(frames.patients)} {of}: {', '.join(frames.patients)}"
    yield from textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _table(
    frames: FrameSet,
    val: FrameSet | None,
    new: Sequence[str],
    old: Sequence[str],
    classes: Sequence[str],
    width: int,
) -> Iterator[str]:
    """Counts of each class; of the old ones of those that the labels still say something of."""
    counts = frames.count(classes)
    beside = None if val is None or not val.rows else val.count(classes)
    head = "" if beside is None else f"{'val frames':>11}"
    yield f"    {'class':<{width}} {'frames':>8} {'patients':>9} {'pixels':>15} {'known without':>14}{head}"
    told = [name for name in old if counts[name]["frames"] or counts[name]["absent"]]
    for name in (*new, *told):
        count = counts[name]
        mark = " " if name in new else "*"
        last = "" if beside is None else f"{beside[name]['frames'] or '-':>11}"
        yield (
            f"  {mark} {name:<{width}} {count['frames'] or '-':>8} {count['patients'] or '-':>9} "
            f"{count['pixels']:>15,} {count['absent'] or '-':>14}{last}"
        )
    if told:
        yield "  * an old class, of which the labels of this step still say something"
    if len(told) < len(old):
        yield f"    of {len(old) - len(told)} old classes they say nothing"


def _returning(plan: StreamPlan) -> str:
    """Who trains in several steps."""
    steps_of: dict[str, int] = {}
    for step in plan.steps:
        for patient in step.train.patients:
            steps_of[patient] = steps_of.get(patient, 0) + 1
    again = sum(count > 1 for count in steps_of.values())
    return f"{again} of {len(steps_of)} training patients come back in later steps"
