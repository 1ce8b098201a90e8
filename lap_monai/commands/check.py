"""`python -m lap_monai check DIR`: what is in a data set, and what is wrong with it."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from lap_monai import keys
from lap_monai.data.finding import Finding
from lap_monai.data.layouts import LAYOUTS
from lap_monai.data.split import PARTS
from lap_monai.data.validation import Validation, validate
from lap_monai.files import write_json
from lap_monai.label_space import LABEL_SPACES

_WIDTH = 98
#: Findings of one kind that the text lists; the JSON file lists all.
_MOST = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    layouts, spaces = ", ".join(LAYOUTS), ", ".join(LABEL_SPACES)
    parser.add_argument("dir", metavar="DIR", type=Path, help="the data set's folder")
    parser.add_argument("--layout", metavar="NAME", help=f"expect one of {layouts} (default: recognise it)")
    parser.add_argument("--split", metavar="NAME|FILE", help="a split to check for leaks and lost classes")
    parser.add_argument("--label-space", metavar="NAME", help=f"count classes of {spaces} (default: the finest)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all counts and findings to a file")
    parser.epilog = "Exit status: 0 if the data set is sound (warnings may be there), 1 if not."


def main(args: argparse.Namespace) -> int:
    """Check a data set, print the result and return 0 if it is sound, 1 if not."""
    result = validate(args.dir, args.layout, args.split, args.label_space, progress=sys.stderr.isatty())
    print("\n".join(render(result)))
    if args.json is not None:
        print(f"Everything in numbers: {write_json(args.json, result.to_json())}")
    return 0 if result.sound else 1


def render(result: Validation) -> Iterator[str]:
    """Yield the lines of the report, at most 98 columns wide save for long paths."""
    yield from _summary(result)
    if result.rows:
        yield ""
        yield from _class_table(result)
        yield ""
        yield from _video_table(result)
    for severity, title in (("error", "Errors"), ("warning", "Warnings")):
        findings = [finding for finding in result.findings if finding.severity == severity]
        if findings:
            yield ""
            yield f"{title}: {len(findings)}"
            yield from _finding_list(findings)
    errors = len(result.errors)
    warnings = len(result.findings) - errors
    yield ""
    verdict = "Sound" if result.sound else "NOT sound"
    yield f"{verdict}: {_number(errors, 'error')}, {_number(warnings, 'warning')}."


def _summary(result: Validation) -> Iterator[str]:
    yield f"{result.root.name}: layout {result.layout}, label space {result.label_space.name}"
    masks = sum(row[keys.LABEL] is not None for row in result.rows)
    phases = sum(row[keys.PHASE] is not None for row in result.rows)
    clips = len({row[keys.CLIP] for row in result.rows})
    sizes = Counter(size for size in result.sizes if size is not None)
    shape = f", {'x'.join(map(str, sizes.most_common(1)[0][0]))}" if sizes else ""
    yield (
        f"{_number(len(result.rows), 'frame')}{shape}, {masks} with mask, {phases} with phase, of "
        f"{_number(len(result.videos), 'video')} and {_number(clips, 'clip')}"
    )
    if result.split is not None:
        yield f"split {result.split.name}: {', '.join(_describe_part(result, part) for part in PARTS)}"


def _describe_part(result: Validation, part: str) -> str:
    frames = result.select(part=part)
    videos = {row[keys.VIDEO] for row, inside in zip(result.rows, frames, strict=True) if inside}
    return f"{part} {_number(int(frames.sum()), 'frame')} of {_number(len(videos), 'video')}"


def _class_table(result: Validation) -> Iterator[str]:
    """Pixels and frames of each class, and frames of each part of the split."""
    parts = [part for part in PARTS if result.split is not None and result.split.videos(part)]
    in_part = {part: result.count(result.select(part=part)) for part in parts}
    total = max(1, int(result.pixels.sum() + result.ignored.sum()))
    width = max(len(name) for name in (*result.label_space.classes, "(ignored)"))
    heads = "".join(f"{part:>8}" for part in parts)
    yield f"{'':>3} {'class':<{width}} {'pixels':>14} {'share':>8} {'frames':>8} {'videos':>7}{heads}"
    videos = [row[keys.VIDEO] for row in result.rows]
    for i, (name, counts) in enumerate(result.count(result.select()).items()):
        shown = len({video for video, n in zip(videos, result.pixels[:, i], strict=True) if n})
        cells = "".join(f"{in_part[part][name]['frames'] or '-':>8}" for part in parts)
        share = f"{100 * counts['pixels'] / total:.2f} %"
        yield f"{i:>3} {name:<{width}} {counts['pixels']:>14,} {share:>8} {counts['frames']:>8} {shown:>7}{cells}"
    ignored = int(result.ignored.sum())
    yield f"{'':>3} {'(ignored)':<{width}} {ignored:>14,} {f'{100 * ignored / total:.2f} %':>8}"


def _video_table(result: Validation) -> Iterator[str]:
    """Frames of each video that show each class."""
    width = max(5, *(len(video) for video in result.videos))
    has_split = result.split is not None
    part_head = f" {'part':<5}" if has_split else ""
    heads = "".join(f"{i:>5}" for i in range(result.label_space.num_classes))
    yield "frames of each video that show class …"
    yield f"{'video':<{width}}{part_head} {'frames':>6} {heads}"
    for video in result.videos:
        frames = result.select(video)
        cells = "".join(f"{count['frames'] or '-':>5}" for count in result.count(frames).values())
        part = f" {result.part_of(video) or '-':<5}" if has_split else ""
        yield f"{video:<{width}}{part} {frames.sum():>6} {cells}"


def _finding_list(findings: list[Finding]) -> Iterator[str]:
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding)
    for kind, group in by_kind.items():
        yield f"  {kind} ({len(group)})" if len(group) > 1 else f"  {kind}"
        for finding in group[:_MOST]:
            yield from textwrap.wrap(
                str(finding), _WIDTH, initial_indent="    ", subsequent_indent="      ", break_long_words=False
            )
        if len(group) > _MOST:
            yield f"    and {len(group) - _MOST} more; --json FILE lists them all"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
