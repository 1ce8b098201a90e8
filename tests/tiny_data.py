"""Hand-made data sets of a few tiny frames, in the real layouts, and their defects."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)  #: height, width of every frame


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth random RGB picture, `(H, W, 3)` uint8; different seeds show clearly different pictures."""
    coarse = np.random.default_rng(seed).integers(30, 225, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def stripes(*values: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask of equal vertical stripes of the raw values, `(H, W)` uint8."""
    columns = np.array(values, dtype=np.uint8)[np.arange(size[1]) * len(values) // size[1]]
    return np.tile(columns, (size[0], 1))


def write_wide_png(path: Path, values: np.ndarray) -> Path:
    """Write `(H, W, channels)` uint16 as a PNG of 16 bits a channel, which Pillow cannot."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))

    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 16, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def write_frame(
    root: Path, video: int, clip: int, frame: int, mask: np.ndarray | None = None, image: np.ndarray | None = None
) -> Path:
    """Write the four files of a CholecSeg8k frame and return the path without its ending."""
    image = picture(1000 * video + frame) if image is None else image
    mask = stripes(50, 11, 21, 22) if mask is None else mask
    folder = root / f"video{video:02d}" / f"video{video:02d}_{clip:05d}"
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"frame_{frame}_endo"
    Image.fromarray(image).save(f"{stem}.png")
    rgb = np.repeat(mask[..., None], 3, axis=2)
    for kind, content in (("mask", rgb // 2), ("color_mask", 255 - rgb), ("watershed_mask", rgb)):
        Image.fromarray(content).save(f"{stem}_{kind}.png")
    return stem


def write_cholecseg8k(root: Path, clips: dict[tuple[int, int], list[int]]) -> Path:
    """Write a CholecSeg8k-like set, (video, clip) → frame numbers, and return its folder."""
    for (video, clip), frames in clips.items():
        for frame in frames:
            write_frame(root, video, clip, frame)
    return root


def write_endoscapes(root: Path, frames: dict[str, list[tuple[int, int]]]) -> Path:
    """Write an Endoscapes-like set, split → (video, frame), and return its folder."""
    (root / "semseg").mkdir(parents=True)
    for split, names in frames.items():
        (root / split).mkdir()
        for video, frame in names:
            Image.fromarray(picture(video * 1000 + frame)).save(root / split / f"{video}_{frame}.jpg", quality=95)
            Image.fromarray(stripes(0, 1, 2, 3, 4, 5, 6, 255)).save(root / "semseg" / f"{video}_{frame}.png")
    return root


def write_dsad(root: Path, frames: dict[str, dict[str, int]], multilabel: bool = True) -> Path:
    """Write a DSAD-like set, organ → patient → number of frames, and return its folder.

    Every frame shows background, its organ, a liver and a spleen, in stripes; a frame of the liver shows no further
    one. `multilabel` holds the frames of `stomach`, if there are any, with stomach and liver drawn.
    """
    for organ, patients in frames.items():
        for patient, count in patients.items():
            folder = root / organ / patient
            folder.mkdir(parents=True)
            lines = ["image,liver,spleen,uterus,ureter,stomach"]
            for i in range(count):
                shown = stripes(0, 1, 2, 3)  # background, this organ, liver, spleen
                image = picture(sum(map(ord, organ)) * 1000 + int(patient) * 100 + i)
                Image.fromarray(image).save(folder / f"image{i:02d}.png")
                own = {"liver": (1, 2), "spleen": (1, 3)}.get(organ, (1,))
                _save_binary(folder / f"mask{i:02d}.png", np.isin(shown, own))
                lines.append(f"image{i:02d},1,1,0,{int(organ == 'ureter')},{int(organ == 'stomach')}")
                if organ == "stomach" and multilabel:
                    other = root / "multilabel" / patient
                    other.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image).save(other / f"image{i:02d}.png")
                    _save_binary(other / f"mask{i:02d}_stomach.png", shown == 1)
                    _save_binary(other / f"mask{i:02d}_liver.png", shown == 2)
            (folder / "weak_labels.csv").write_text("\n".join(lines) + "\n")
    return root


def _save_binary(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
