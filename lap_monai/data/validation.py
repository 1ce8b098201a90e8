"""Checking a data set before any training does."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lap_monai import keys
from lap_monai.checks import UserError
from lap_monai.data.duplicates import find_duplicates
from lap_monai.data.finding import Finding
from lap_monai.data.frame_probe import FrameProbe, probe_frame
from lap_monai.data.layout import Row, row_id
from lap_monai.data.layouts import scan_layout
from lap_monai.data.ordering import natural_key
from lap_monai.data.partial_labels import weak_label_contradictions
from lap_monai.data.split import PARTS, Split
from lap_monai.data.splits import folder_split, load_split
from lap_monai.label_space import LabelSpace, get_label_space


@dataclass(frozen=True)
class Validation:
    """What a check of a data set found.

    Args:
        root: the data set's folder.
        layout: its layout.
        label_space: the classes that were counted.
        split: the split that was checked, or None.
        rows: the frames, in order.
        pixels: pixels of each class in each frame, `int64 (N, C)`.
        ignored: pixels of no class in each frame, `int64 (N,)`.
        sizes: (width, height) of each frame, None if unreadable.
        findings: all defects, errors first.
    """

    root: Path
    layout: str
    label_space: LabelSpace
    split: Split | None
    rows: list[Row]
    pixels: NDArray[np.int64]
    ignored: NDArray[np.int64]
    sizes: list[tuple[int, int] | None]
    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        """The defects that a training does not survive, or that make its result wrong."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def sound(self) -> bool:
        """Whether there are no errors; warnings may be there."""
        return not self.errors

    @property
    def videos(self) -> list[str]:
        """The videos, in the order of their numbers."""
        return sorted({row[keys.VIDEO] for row in self.rows}, key=natural_key)

    def part_of(self, video: str) -> str | None:
        """Return the part of the split that a video is in."""
        return None if self.split is None else self.split.part_of(video)

    def select(self, video: str | None = None, part: str | None = None) -> NDArray[np.bool_]:
        """Return which frames are of a video and of a part, `bool (N,)`."""
        return np.array(
            [
                video in (None, row[keys.VIDEO]) and (part is None or self.part_of(row[keys.VIDEO]) == part)
                for row in self.rows
            ],
            dtype=bool,
        )

    def count(self, frames: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
        """Return, for each class, its pixels and the number of frames that show it, among the frames chosen."""
        pixels, shown = self.pixels[frames].sum(0), (self.pixels[frames] > 0).sum(0)
        return {
            name: {"pixels": int(pixels[i]), "frames": int(shown[i])} for i, name in enumerate(self.label_space.classes)
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        parts = [part for part in PARTS if self.split is not None and self.select(part=part).any()]
        return {
            "sound": self.sound,
            "root": str(self.root),
            "layout": self.layout,
            "label_space": self.label_space.name,
            "split": None if self.split is None else self.split.to_json(),
            "frames": len(self.rows),
            "masks": sum(row[keys.LABEL] is not None for row in self.rows),
            "frames_with_phase": sum(row[keys.PHASE] is not None for row in self.rows),
            "clips": len({row[keys.CLIP] for row in self.rows}),
            "ignored_pixels": int(self.ignored.sum()),
            "classes": self.count(self.select()),
            "parts": {part: self.count(self.select(part=part)) for part in parts},
            "videos": {video: self._describe_video(video) for video in self.videos},
            "findings": [vars(finding) for finding in self.findings],
        }

    def _describe_video(self, video: str) -> dict[str, Any]:
        frames = self.select(video)
        return {"part": self.part_of(video), "frames": int(frames.sum()), "classes": self.count(frames)}


def validate(
    root: str | Path,
    layout: str | None = None,
    split: str | Path | None = None,
    label_space: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Validation:
    """Read every frame and mask of a data set and report what is in it and what is wrong with it.

    Args:
        root: the data set's folder, or one that holds it as its only data set.
        layout: name of the layout to expect; None recognises it.
        split: what `load_split` takes; None uses the data set's own folders, if they make a split.
        label_space: whose classes to count; None for the layout's finest.
        workers: threads; None for the number of cores.
        progress: whether to show a progress bar.

    Raises:
        UserError: if the folder, layout, split file or label space is not there, or the layout and label space differ.
    """
    known, folder, rows, findings = scan_layout(root, layout)
    space = get_label_space(label_space or known.label_space)
    if space.layout != known.name:
        raise UserError(
            f"Label space {space.name!r} belongs to layout {space.layout!r}; this data set is {known.name!r}."
        )
    if not rows:
        findings.append(Finding("error", "empty data set", str(folder), f"holds no frames; expected {known.expected}"))
    named = None if split is None else load_split(split)
    probes = _probe_all(rows, folder, space, workers, progress)
    chosen, split_findings = _find_split(rows, named)
    histograms = np.stack([probe.histogram for probe in probes]) if probes else np.zeros((0, 256), dtype=np.int64)
    pixels = space.count_pixels(histograms)
    sizes = [probe.size for probe in probes]
    findings += [finding for probe in probes for finding in probe.findings]
    findings += split_findings
    findings += weak_label_contradictions(rows, pixels, space.classes, str(folder))
    findings += _repeated_frames(rows) + _odd_sizes(rows, sizes) + _missing_phases(rows)
    findings += _duplicates(rows, probes, chosen) + _lost_classes(rows, pixels, space, chosen)
    return Validation(
        root=folder,
        layout=known.name,
        label_space=space,
        split=chosen,
        rows=rows,
        pixels=pixels,
        ignored=histograms.sum(1) - pixels.sum(1),
        sizes=sizes,
        findings=sorted(findings, key=lambda finding: finding.severity != "error"),
    )


def _probe_all(
    rows: Sequence[Row], root: Path, space: LabelSpace, workers: int | None, progress: bool
) -> list[FrameProbe]:
    """Probe all rows in threads; Pillow decodes without holding the interpreter lock."""
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        probes = pool.map(lambda row: probe_frame(row, root, space), rows)
        return list(tqdm(probes, "check", total=len(rows), unit="frame", disable=not progress, delay=1))


def _find_split(rows: Sequence[Row], named: Split | None) -> tuple[Split | None, list[Finding]]:
    """The split to check, and what is wrong between it and the videos at hand."""
    if named is None:
        if not rows or any("split" not in row for row in rows):
            return None, []
        try:
            return folder_split(rows), []
        except UserError as error:
            return None, [Finding("error", "split", "folders", str(error))]
    videos = {row[keys.VIDEO] for row in rows}
    findings = []
    for part, absent in named.absent(videos).items():
        if absent:
            empty = len(absent) == len(named.videos(part))
            where, message = f"split {named.name}, {part}", f"not in the data set: {', '.join(absent)}"
            findings.append(Finding("error" if empty else "warning", "split", where, message))
    spare = sorted((video for video in videos if named.part_of(video) is None), key=natural_key)
    if spare:
        message = f"in no part, so left out: {_some(spare)}"
        findings.append(Finding("warning", "split", f"split {named.name}", message))
    return named, findings


def _repeated_frames(rows: Sequence[Row]) -> list[Finding]:
    """Frames that two clips of a video contain."""
    clips: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        clips[row_id(row)].append(row[keys.CLIP])
    return [
        Finding("warning", "repeated frame", frame, f"is in clips {', '.join(names)}")
        for frame, names in clips.items()
        if len(names) > 1
    ]


def _odd_sizes(rows: Sequence[Row], sizes: Sequence[tuple[int, int] | None]) -> list[Finding]:
    """Frames of another size than most."""
    of_size: dict[tuple[int, int], list[str]] = defaultdict(list)
    for row, size in zip(rows, sizes, strict=True):
        if size is not None:
            of_size[size].append(row_id(row))
    if len(of_size) < 2:
        return []
    usual = max(of_size, key=lambda size: len(of_size[size]))
    return [
        Finding("warning", "odd size", f"{width}x{height}", f"{_some(frames)}; most are {usual[0]}x{usual[1]}")
        for (width, height), frames in of_size.items()
        if (width, height) != usual
    ]


def _missing_phases(rows: Sequence[Row]) -> list[Finding]:
    """Videos without phases in a data set that has some."""
    with_phase = {row[keys.VIDEO] for row in rows if row[keys.PHASE] is not None}
    without = Counter(row[keys.VIDEO] for row in rows if row[keys.PHASE] is None)
    if not with_phase or not without:
        return []
    videos = sorted(without, key=natural_key)
    return [Finding("warning", "missing phase", _some(videos), f"{without.total()} frames have no phase")]


def _duplicates(rows: Sequence[Row], probes: Sequence[FrameProbe], split: Split | None) -> list[Finding]:
    """Pictures that occur in two videos, or twice in one; one finding for each pair of videos."""
    pairs = find_duplicates([probe.signature for probe in probes], [row[keys.VIDEO] for row in rows])
    grouped: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for pair in pairs:
        first, second = rows[pair.first], rows[pair.second]
        grouped[first[keys.VIDEO], second[keys.VIDEO], pair.exact].append(f"{row_id(first)} = {row_id(second)}")
    findings = []
    for (video, other, exact), names in grouped.items():
        kind = "duplicate" if exact else "near-duplicate"
        plural = "s" if len(names) > 1 else ""
        message = f"{len(names)} pair{plural} of frames show the same picture: {_some(names, 3)}"
        part, other_part = (None if split is None else split.part_of(name) for name in (video, other))
        if part is not None and other_part is not None and part != other_part:
            where = f"{video} ({part}) and {other} ({other_part})"
            findings.append(Finding("error", f"{kind} across the split", where, message))
        else:
            where = video if video == other else f"{video} and {other}"
            findings.append(Finding("warning", kind, where, message))
    return findings


def _lost_classes(
    rows: Sequence[Row], pixels: NDArray[np.int64], space: LabelSpace, split: Split | None
) -> list[Finding]:
    """Classes that the data set or a part of the split lacks.

    A class that is validated or tested but never taught makes a result wrong (its score is zero by construction); one
    that is taught but not tested only lacks a score.
    """
    if not rows:
        return []
    parts = np.array([split.part_of(row[keys.VIDEO]) if split else None for row in rows], dtype=object)
    present = {part: (pixels[parts == part] > 0).any(0) for part in PARTS if (parts == part).any()}
    findings = []
    for i, name in enumerate(space.classes):
        if not (pixels[:, i] > 0).any():
            findings.append(Finding("warning", "absent class", name, "no pixel in the whole data set"))
            continue
        lacking = [part for part, shown in present.items() if not shown[i]]
        having = [part for part in present if part not in lacking]
        if "train" in lacking and having:
            message = f"occurs in {' and '.join(having)} but not in train; choose a label space that merges or drops it"
            findings.append(Finding("error", "class absent from train", name, message))
        elif lacking:
            findings.append(
                Finding("warning", "absent class", name, f"no pixel in {' and '.join(lacking)}: no score there")
            )
    return findings


def _some(names: Iterable[str], most: int = 8) -> str:
    """The first names of many."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
