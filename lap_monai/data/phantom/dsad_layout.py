"""The phantom's rectal resections as the Dresden Surgical Anatomy Dataset lays its images out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lap_monai.data.phantom.rectal_resection import ORGANS, RectalPatient
from lap_monai.data.phantom.renderer import render
from lap_monai.data.phantom.version import texture_cells, video_seed

#: Structures that `multilabel/` annotates, on the frames of `stomach/`.
MULTILABEL_ORGANS = ("abdominal_wall", "colon", "liver", "pancreas", "small_intestine", "spleen", "stomach")

_SHARED = "stomach"

#: Seconds between two frames of a clip: DSAD picks frames from minutes of video.
_STEP = 0.4

_RATERS = ("anno_1", "anno_2", "anno_3")


class DsadSurgery:
    """One surgery: a folder of frames for each structure.

    Args:
        seed: seed of the data set.
        video: number of the surgery, from 0.
        frames: frames for each structure.
        clips: views that these frames are shared among.
        size: `(W, H)` of a frame.
    """

    def __init__(self, seed: int, video: int, frames: int, clips: int, size: tuple[int, int]) -> None:
        body, scenes = video_seed(seed, video).spawn(2)
        self.name = f"{video + 1:02d}"
        self.size = size
        self.patient = RectalPatient(body, texture_cells(size))
        self._seeds = dict(zip(ORGANS, (child.spawn(clips) for child in scenes.spawn(len(ORGANS))), strict=True))
        self._lengths = [len(part) for part in np.array_split(np.arange(frames), clips)]

    def frames(self, organ: str, tick: Callable[[], object]) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Pictures `(H, W, 3)` and class ids `(H, W)`, position in `ORGANS` plus one, of a structure's folder."""
        drawn = []
        for seed, length in zip(self._seeds[organ], self._lengths, strict=True):
            scene = self.patient.scene(organ, np.random.default_rng(seed))
            grain = int(seed.generate_state(1)[0])
            for index in range(length):
                drawn.append(render(scene, index * _STEP, self.size, grain + index))
                tick()
        return drawn

    def write(self, root: Path, tick: Callable[[], object]) -> None:
        """Write the folders of all structures, and `multilabel/`; call `tick` after each frame."""
        for number, organ in enumerate(ORGANS):
            folder = root / organ / self.name
            for part in ("", "merged", *_RATERS):
                (folder / part).mkdir(parents=True)
            rng = np.random.default_rng(self._seeds[organ][0].generate_state(2)[1])
            presence = []
            for index, (picture, labels) in enumerate(self.frames(organ, tick)):
                Image.fromarray(picture).save(folder / f"image{index:02d}.png", compress_level=1)
                _write_masks(folder, f"mask{index:02d}.png", labels == number + 1, rng)
                presence.append(np.isin(np.arange(1, len(ORGANS) + 1), labels))
                if organ == _SHARED:
                    self._share(root, folder / f"image{index:02d}.png", labels)
            _write_weak_labels(folder / "weak_labels.csv", presence)

    def _share(self, root: Path, image: Path, labels: NDArray[np.uint8]) -> None:
        """Put a frame and the masks of the structures on it into `multilabel/`."""
        folder = root / "multilabel" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, folder / image.name)
        for organ in MULTILABEL_ORGANS:
            mask = labels == ORGANS.index(organ) + 1
            if mask.any():
                _save(folder / f"{image.stem.replace('image', 'mask')}_{organ}.png", mask)


def _write_masks(folder: Path, name: str, mask: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Write the final mask, three raters' slightly different ones and what most of them say."""
    reach = max(mask.shape[0] // 120, 1)
    raters = [ndimage.shift(mask, rng.integers(-reach, reach + 1, 2), order=0, mode="nearest") for _ in _RATERS]
    _save(folder / name, mask)
    _save(folder / "merged" / name, np.sum(raters, axis=0) >= 2)
    for rater, drawn in zip(_RATERS, raters, strict=True):
        _save(folder / rater / name, drawn)


def _save(path: Path, mask: NDArray[np.bool_]) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, compress_level=1)


def _write_weak_labels(path: Path, presence: list[NDArray[np.bool_]]) -> None:
    """Write which structures each frame shows: a header, then 0 or 1 per structure."""
    lines = [",".join(("image", *ORGANS))]
    lines += [",".join((f"image{i:02d}", *(str(int(seen)) for seen in row))) for i, row in enumerate(presence)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
