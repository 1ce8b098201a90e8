"""Write a phantom data set, all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

from tqdm import tqdm

from lap_monai.checks import UserError, require_choice
from lap_monai.data.phantom.cholecseg8k_layout import CholecystectomyVideo
from lap_monai.data.phantom.dsad_layout import DsadSurgery
from lap_monai.data.phantom.rectal_resection import ORGANS
from lap_monai.data.phantom.version import PHANTOM_VERSION


class _Video(Protocol):
    def write(self, root: Path, tick: Callable[[], object]) -> None: ...


class _Kind(NamedTuple):
    """A layout: makes a video from (seed, video, frames, clips, size), and how many frames it has per one asked for."""

    make: Callable[[int, int, int, int, tuple[int, int]], _Video]
    multiple: int


_KINDS = {"cholecseg8k": _Kind(CholecystectomyVideo, 1), "dsad": _Kind(DsadSurgery, len(ORGANS))}

#: Layouts that `write_phantom` knows.
LAYOUTS: tuple[str, ...] = tuple(_KINDS)


def write_phantom(
    out: str | Path,
    layout: str = "cholecseg8k",
    videos: int = 10,
    frames: int = 40,
    size: tuple[int, int] = (854, 480),
    seed: int = 0,
    clips: int | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Write a synthetic surgical data set in the exact layout of a real one.

    Every video is another patient. A seed fully determines every pixel, whatever the number of workers; with more
    `videos` or other `frames` the patients stay who they are. `phantom.json` in the new folder names version and seed.

    Args:
        out: the folder to make; it may exist if it is empty.
        layout: `"cholecseg8k"` (with Cholec80 phase files in `phase_annotations/`) or `"dsad"`.
        videos: how many patients.
        frames: frames per patient (DSAD: per patient and organ).
        size: `(W, H)` of a frame in pixels, at least 32 each.
        seed: of everything.
        clips: clips per video that the frames are shared among, spread over the surgery; by default one per 8 frames,
            at least 2 and at most 10.
        workers: threads; by default one per processor.
        progress: show a progress bar.

    Returns:
        The folder.

    Raises:
        UserError: if `out` holds something or an argument makes no sense.
    """
    out = Path(out)
    require_choice(layout, LAYOUTS, "phantom layout")
    clips = min(frames, max(2, min(10, frames // 8))) if clips is None else clips
    _check(out, videos, frames, size, seed, clips)
    partial = out.absolute().parent / f".{out.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        kind = _KINDS[layout]
        total = videos * frames * kind.multiple

        def write_video(video: int, tick: Callable[[], object]) -> None:
            kind.make(seed, video, frames, clips, size).write(partial, tick)

        _write_all(write_video, videos, total, workers or os.cpu_count() or 1, progress)
        record = {
            "phantom_version": PHANTOM_VERSION,
            "layout": layout,
            "seed": seed,
            "size": list(size),
            "videos": videos,
            "frames_per_video": frames,
            "clips_per_video": clips,
            "frames": total,
        }
        (partial / "phantom.json").write_text(json.dumps(record, indent=4) + "\n", encoding="utf-8")
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _check(out: Path, videos: int, frames: int, size: tuple[int, int], seed: int, clips: int) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{str(out)!r} is not empty; give a new folder, or remove this one first.")
    if videos < 1 or frames < 1 or seed < 0:
        raise UserError(
            f"videos={videos}, frames={frames}, seed={seed}: need at least 1 video and 1 frame, and no negative seed."
        )
    if not 1 <= clips <= frames:
        raise UserError(f"clips={clips}: give 1 to {frames}, since a video has {frames} frames.")
    if min(size) < 32:
        raise UserError(f"size {size[0]}x{size[1]}: give at least 32x32, for example 427x240.")


def _write_all(write_video: Callable[..., None], videos: int, total: int, workers: int, progress: bool) -> None:
    """Write the videos, several at once (NumPy and the PNG encoder release the interpreter lock)."""
    stopped = threading.Event()
    with (
        tqdm(total=total, desc="phantom", unit="frame", disable=not progress) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):

        def tick() -> None:
            if stopped.is_set():
                raise CancelledError
            bar.update()

        futures = [pool.submit(write_video, video, tick) for video in range(videos)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
