"""Surgical phases of Cholec80, joined to frames by their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lap_monai.checks import UserError, did_you_mean

#: The seven phases of Cholec80; the position is the phase index.
PHASES = (
    "Preparation",
    "CalotTriangleDissection",
    "ClippingCutting",
    "GallbladderDissection",
    "GallbladderRetraction",
    "CleaningCoagulation",
    "GallbladderPackaging",
)

#: Frames per second of the Cholec80 videos, and so of the frame numbers of CholecSeg8k.
FRAME_RATE = 25

#: No Cholec80 video is shorter at 25 fps (the shortest lasts 12 minutes) nor longer at 1 fps (100 minutes = 6,000).
_SHORTEST_VIDEO = 10_000

_BY_SPELLING = {name.lower(): name for name in PHASES}


def phase_index(name: str | None) -> int:
    """Return the index of a phase in `PHASES`, or -1 for None.

    Raises:
        UserError: if there is no such phase.
    """
    if name is None:
        return -1
    if name not in PHASES:
        raise UserError(f"Unknown surgical phase {name!r}.{did_you_mean(name, PHASES)}")
    return PHASES.index(name)


@dataclass(frozen=True)
class PhaseTable:
    """The phases of one video.

    Args:
        frames: the `Frame` column, increasing, `int64 (R,)`.
        phases: phase index of each row, `int64 (R,)`.
        divisor: how many frames of the video one unit of the `Frame` column spans: 1, or 25 in a 1-fps re-export whose
            rows were renumbered.
    """

    frames: NDArray[np.int64]
    phases: NDArray[np.int64]
    divisor: int = 1

    @property
    def step(self) -> int:
        """Distance of two rows in the `Frame` column."""
        return int(self.frames[1] - self.frames[0]) if len(self.frames) > 1 else 1

    def at(self, frame: int) -> str | None:
        """Return the phase at a 25-fps frame number, or None before the first and after the last row."""
        position = frame // self.divisor
        row = int(np.searchsorted(self.frames, position, side="right")) - 1
        if row < 0 or position >= self.frames[-1] + self.step:
            return None
        return PHASES[self.phases[row]]


@lru_cache(maxsize=64)  # a file repeats a handful of spellings 100,000 times
def _phase(text: str) -> str | None:
    return _BY_SPELLING.get("".join(c for c in text.lower() if c.isalpha()))


def _is_number(text: str) -> bool:
    """Whether a text is a frame number: digits, of which no video has more than 12."""
    digits = text.strip()
    return digits.isascii() and digits.isdigit() and len(digits) <= 12


def read_phase_file(path: str | Path) -> PhaseTable:
    """Read `videoXX-phase.txt`: a header line, then tab-separated `Frame` and `Phase`.

    Raises:
        UserError: naming file and line, if a line is not of that form, a phase is unknown or frames do not increase.
    """
    path = Path(path)
    frames: list[int] = []
    phases: list[int] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        fields = line.split("\t") if "\t" in line else line.split(maxsplit=1)
        if not fields or (number == 1 and not _is_number(fields[0])):
            continue
        if len(fields) != 2 or not _is_number(fields[0]):
            raise UserError(f"{path}, line {number}: expected 'Frame<TAB>Phase', found {line[:60]!r}.")
        name = _phase(fields[1])
        if name is None:
            raise UserError(f"{path}, line {number}: unknown phase {fields[1]!r}.{did_you_mean(fields[1], PHASES)}")
        frames.append(int(fields[0]))
        phases.append(PHASES.index(name))
    table = PhaseTable(np.array(frames, dtype=np.int64), np.array(phases, dtype=np.int64))
    if not frames:
        raise UserError(f"{path} holds no rows; expected 'Frame<TAB>Phase', one row a frame.")
    if np.any(np.diff(table.frames) <= 0):
        raise UserError(f"{path}: frame numbers do not increase; expected one row a frame, in order.")
    return table


def read_phases(directory: str | Path, last_frames: Mapping[str, int]) -> dict[str, PhaseTable]:
    """Read the phase files of a folder.

    The original files have a row for each of the 25 frames a second. Of the 1-fps re-exports, those that kept the
    frame numbers (0, 25, 50, …) show by their steps. In a renumbered one (0, 1, 2, … seconds) the rows look as in an
    original file, so the rate is settled for the folder as a whole: by a file too long for 1 fps, by frames past a
    file's end, and last by whether the frames at hand all lie in the first half of their short files.

    Args:
        directory: holds `<video>-phase.txt` for all, some or none of the videos.
        last_frames: video → its largest frame number in the data set.

    Returns:
        Video → its phases, for the videos that have a file.

    Raises:
        UserError: if a file is damaged.
    """
    paths = {video: Path(directory) / f"{video}-phase.txt" for video in last_frames}
    tables = {video: read_phase_file(path) for video, path in paths.items() if path.is_file()}
    stepwise = {video: table for video, table in tables.items() if table.step == 1}
    if not stepwise or not _is_renumbered(stepwise, last_frames):
        return tables
    return {
        video: PhaseTable(table.frames, table.phases, FRAME_RATE) if video in stepwise else table
        for video, table in tables.items()
    }


def _is_renumbered(tables: Mapping[str, PhaseTable], last_frames: Mapping[str, int]) -> bool:
    """Whether files whose `Frame` column counts 0, 1, 2, … count seconds and not frames."""
    if any(len(table.frames) >= _SHORTEST_VIDEO for table in tables.values()):
        return False
    reach = [last_frames[video] / len(table.frames) for video, table in tables.items()]
    return max(reach) >= 1 or max(reach) < 0.5
