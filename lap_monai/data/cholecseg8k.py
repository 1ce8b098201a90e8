"""CholecSeg8k: `videoXX/videoXX_SSSSS/frame_N_endo*.png`, four files a frame."""

from __future__ import annotations

import re
from pathlib import Path

from lap_monai import keys
from lap_monai.checks import require_dir
from lap_monai.data.finding import Finding
from lap_monai.data.layout import Layout, Row
from lap_monai.data.phases import read_phases

_VIDEO = re.compile(r"video\d+")
_CLIP = re.compile(r"video\d+_\d+")
_IMAGE = re.compile(r"frame_(\d+)_endo\.png")
_FILE = re.compile(r"frame_(\d+)_endo(_mask|_color_mask|_watershed_mask)?\.png")

#: The class mask. `_endo_mask.png` is a by-product of the annotation tool and no ground truth.
_MASK = "_watershed_mask"
_BY_PRODUCTS = ("_mask", "_color_mask")


def matches(root: Path) -> bool:
    """Whether `root` holds `videoXX/videoXX_SSSSS` folders, as CholecSeg8k does."""
    return any(_clips(video) for video in _videos(root))


def scan(root: Path, phases_dir: Path | None = None) -> tuple[list[Row], list[Finding]]:
    """List all frames and what is wrong with the set of files; see `Layout.scan`."""
    rows: list[Row] = []
    findings: list[Finding] = []
    for video in _videos(root):
        for clip in _clips(video):
            clip_rows, clip_findings = _scan_clip(root, video.name, clip)
            rows += clip_rows
            findings += clip_findings
    _join_phases(rows, _phase_folder(root) if phases_dir is None else require_dir(phases_dir, "phases_dir"))
    return rows, findings


def _videos(root: Path) -> list[Path]:
    return _sorted_folders(root, _VIDEO)


def _clips(video: Path) -> list[Path]:
    return _sorted_folders(video, _CLIP)


def _sorted_folders(parent: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Sub-folders whose name matches, in the order of the numbers in the names."""
    folders = [path for path in parent.iterdir() if pattern.fullmatch(path.name) and path.is_dir()]
    return sorted(folders, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])


def _scan_clip(root: Path, video: str, clip: Path) -> tuple[list[Row], list[Finding]]:
    """Rows and findings of one clip. The frame number is not zero-padded in the name, so it is sorted as a number."""
    files: dict[int, set[str]] = {}
    for path in clip.iterdir():
        if match := _FILE.fullmatch(path.name):
            files.setdefault(int(match[1]), set()).add(match[2] or "")
    rows: list[Row] = []
    findings: list[Finding] = []
    for frame, kinds in sorted(files.items()):
        stem = clip / f"frame_{frame}_endo"
        if "" in kinds:
            rows.append(
                {
                    keys.IMAGE: str(stem.with_name(f"{stem.name}.png").absolute()),
                    keys.LABEL: str(stem.with_name(f"{stem.name}{_MASK}.png").absolute()) if _MASK in kinds else None,
                    keys.VIDEO: video,
                    keys.CLIP: clip.name,
                    keys.FRAME: frame,
                    keys.PHASE: None,
                }
            )
        findings += _missing(str(stem.relative_to(root)), kinds)
    if not rows:
        findings.append(Finding("warning", "empty clip", str(clip.relative_to(root)), "holds no frame_N_endo.png"))
    return rows, findings


def _missing(stem: str, kinds: set[str]) -> list[Finding]:
    """Findings about the files of one frame that are not there."""
    if "" not in kinds:
        return [Finding("error", "missing frame", f"{stem}.png", "missing, but the frame has masks; restore or delete")]
    findings = []
    if _MASK not in kinds:
        message = "missing, but the frame is there; restore the mask or delete the frame's files"
        findings.append(Finding("error", "missing mask", f"{stem}{_MASK}.png", message))
    absent = [kind for kind in _BY_PRODUCTS if kind not in kinds]
    if absent:
        where = ", ".join(f"{stem}{kind}.png" for kind in absent)
        findings.append(Finding("warning", "missing by-product", where, "missing; not used by any training"))
    return findings


def _phase_folder(root: Path) -> Path | None:
    """Where phase files lie inside the data set, if they do: Cholec80's own folder name, or beside the videos."""
    folders = (root / "phase_annotations", root)
    return next((folder for folder in folders if any(folder.glob("video*-phase.txt"))), None)


def _join_phases(rows: list[Row], phases_dir: Path | None) -> None:
    """Set the phase of each row whose video has a phase file."""
    if phases_dir is None:
        return
    last_frames: dict[str, int] = {}
    for row in rows:
        last_frames[row[keys.VIDEO]] = max(row[keys.FRAME], last_frames.get(row[keys.VIDEO], 0))
    tables = read_phases(phases_dir, last_frames)
    for row in rows:
        if row[keys.VIDEO] in tables:
            row[keys.PHASE] = tables[row[keys.VIDEO]].at(row[keys.FRAME])


LAYOUT = Layout(
    name="cholecseg8k",
    expected="videoXX/videoXX_SSSSS/frame_N_endo.png with frame_N_endo_watershed_mask.png",
    label_space="cholecseg8k_13",
    matches=matches,
    scan=scan,
)
