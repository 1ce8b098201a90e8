"""The phantom's gallbladder removals as CholecSeg8k and Cholec80 lay theirs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lap_monai.data.phantom.cholecystectomy import Patient
from lap_monai.data.phantom.renderer import render
from lap_monai.data.phantom.scene import Scene
from lap_monai.data.phantom.version import texture_cells, video_seed
from lap_monai.data.phases import FRAME_RATE
from lap_monai.label_space import get_label_space

_SPACE = get_label_space("cholecseg8k_13")
_RAW = np.zeros(256, dtype=np.uint8)
_RAW[list(_SPACE.values.values())] = list(_SPACE.values.keys())
_COLOURS = np.full((256, 3), 255, dtype=np.uint8)
_COLOURS[list(_SPACE.values.keys())] = [_SPACE.colours[index] for index in _SPACE.values.values()]

#: Raw value of the 1-pixel frame around every mask.
_BORDER = 255

# Usual share of a surgery, in the usual order. The dissections last longest.
_SHARES = {
    "Preparation": 0.07,
    "CalotTriangleDissection": 0.33,
    "ClippingCutting": 0.09,
    "GallbladderDissection": 0.27,
    "GallbladderPackaging": 0.07,
    "CleaningCoagulation": 0.10,
    "GallbladderRetraction": 0.07,
}

#: Frames of the shortest surgery. Cholec80 has none below 17,000; readers tell 25 fps from 1 fps by such lengths.
_SHORTEST = 12_000


@dataclass(frozen=True)
class Timeline:
    """When the phases of one video start.

    Args:
        phases: their names, in order.
        ends: frame number after the last one of each.
    """

    phases: tuple[str, ...]
    ends: tuple[int, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, at_least: int) -> Timeline:
        """Draw the course of a surgery of at least so many frames."""
        names = list(_SHARES)
        if rng.random() < 0.3:  # some clean up before they pack
            names[4], names[5] = names[5], names[4]
        shares = np.array([_SHARES[name] for name in names]) * rng.uniform(0.7, 1.4, len(names))
        total = int(max(_SHORTEST, at_least) * rng.uniform(1.0, 1.6))
        return cls(tuple(names), tuple(np.rint(total * np.cumsum(shares / shares.sum())).astype(int).tolist()))

    def phase_at(self, frame: int) -> str:
        """Name of the phase at a frame number."""
        return self.phases[int(np.searchsorted(self.ends[:-1], frame, side="right"))]

    def place_clips(self, rng: np.random.Generator, lengths: list[int]) -> list[int]:
        """First frame numbers of clips spread over the surgery, each within one phase."""
        slots = np.linspace(0, self.ends[-1], len(lengths) + 1)
        starts = []
        for begin, end, length in zip(slots[:-1], slots[1:], lengths, strict=True):
            start = int(begin + rng.random() * max(end - begin - length, 0))
            phase_end = self.ends[int(np.searchsorted(self.ends[:-1], start, side="right"))]
            starts.append(max(min(start, phase_end - length), int(np.ceil(begin))))
        return starts

    def text(self) -> str:
        """The file of Cholec80: a header, then one tab-separated row per 25-fps frame."""
        lines = ["Frame\tPhase"]
        begin = 0
        for phase, end in zip(self.phases, self.ends, strict=True):
            lines += [f"{frame}\t{phase}" for frame in range(begin, end)]
            begin = end
        return "\n".join(lines) + "\n"


class CholecystectomyVideo:
    """One patient's video: its timeline and its clips.

    Args:
        seed: seed of the data set.
        video: number of the video, from 0.
        frames: how many frames it has in all its clips.
        clips: how many clips.
        size: `(W, H)` of a frame.
    """

    def __init__(self, seed: int, video: int, frames: int, clips: int, size: tuple[int, int]) -> None:
        body, course, *self._clip_seeds = video_seed(seed, video).spawn(2 + clips)
        rng = np.random.default_rng(course)
        self.name = f"video{video + 1:02d}"
        self.size = size
        self.patient = Patient(body, texture_cells(size))
        self.lengths = [len(part) for part in np.array_split(np.arange(frames), clips)]
        self.timeline = Timeline.draw(rng, 4 * frames)
        self.starts = self.timeline.place_clips(rng, self.lengths)

    def render(self, clip: int, frame: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Picture `(H, W, 3)` and class ids `(H, W)` of a clip's frame, both counted from 0."""
        return self._draw(self._scene(clip), clip, frame)

    def _scene(self, clip: int) -> Scene:
        phase = self.timeline.phase_at(self.starts[clip])
        return self.patient.scene(phase, np.random.default_rng(self._clip_seeds[clip]))

    def _draw(self, scene: Scene, clip: int, frame: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        grain = int(self._clip_seeds[clip].generate_state(1)[0]) + frame
        return render(scene, frame / FRAME_RATE, self.size, grain)

    def write(self, root: Path, tick: Callable[[], object]) -> None:
        """Write all clips and the phase file; call `tick` after each frame."""
        for clip, (start, length) in enumerate(zip(self.starts, self.lengths, strict=True)):
            folder = root / self.name / f"{self.name}_{start:05d}"
            folder.mkdir(parents=True)
            scene = self._scene(clip)
            for frame in range(length):
                picture, labels = self._draw(scene, clip, frame)
                _write_frame(folder, start + frame, picture, labels)
                tick()
        phases = root / "phase_annotations"
        phases.mkdir(parents=True, exist_ok=True)
        (phases / f"{self.name}-phase.txt").write_text(self.timeline.text(), encoding="utf-8")


def _write_frame(folder: Path, number: int, picture: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Write the four files of a frame, all 8-bit RGB."""
    raw = _RAW[labels]
    strokes = np.where(_strokes(labels), raw, 0)
    raw[0], raw[-1], raw[:, 0], raw[:, -1] = _BORDER, _BORDER, _BORDER, _BORDER
    files = {
        "": picture,
        "_mask": np.repeat(strokes[..., None], 3, axis=2),
        "_color_mask": _COLOURS[raw],
        "_watershed_mask": np.repeat(raw[..., None], 3, axis=2),
    }
    for ending, pixels in files.items():
        Image.fromarray(pixels).save(folder / f"frame_{number}_endo{ending}.png", compress_level=1)


def _strokes(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where an annotator would have drawn: a band inside every outline, as in the real `_endo_mask.png`."""
    step = max(labels.shape[0] // 120, 1)
    small = labels[::step, ::step]

    def uniform(width: int) -> NDArray[np.bool_]:
        return ndimage.minimum_filter(small, width) == ndimage.maximum_filter(small, width)

    band = uniform(5) & ~uniform(13)
    return band.repeat(step, 0).repeat(step, 1)[: labels.shape[0], : labels.shape[1]]
