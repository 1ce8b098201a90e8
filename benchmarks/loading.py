"""How fast frames are loaded: our cache and data set beside MONAI's transforms on the same PNG files.

Contenders, each a pass over all frames (phantom frames of 854x480 with CholecSeg8k masks), in turn in one process:

- `monai`: `LoadImaged`, `EnsureChannelFirstd`, `Resized` (area, nearest) to 427x240 and scaling to [0, 1];
- `monai_cache`: the same into memory, as `CacheDataset` does with a thread for each core;
- `cold`: `FrameCache.build` into a new folder, with a thread for each core: what the first start of a training costs;
- `cold_one_thread`: the same with one thread, as `monai` runs;
- `warm`: `FrameDataset` from that cache: what every epoch costs;
- `warm_augmented`: that with the paper's augmentation, `RandSurgicalAugmentd`;
- `monai_cached_augmented`: MONAI's `CacheDataset`, filled before the clock starts, with stock transforms for it.

The files are in the system's page cache for all of them. Goals: `monai/warm` at least 5, `monai/cold` at least 2.
Decoding PNG takes most of `cold`, and Pillow does it for both.

    python benchmarks/loading.py --out docs/evidence/loading.json
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from _common import interleaved, write_report
from monai.data import CacheDataset, Dataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandFlipd,
    RandGaussianSmoothd,
    RandSpatialCropd,
    RandZoomd,
    Resized,
    ScaleIntensityRanged,
    SpatialPadd,
)
from PIL import Image

from lap_monai.data import FrameCache, FrameDataset, Row, read_layout
from lap_monai.data.phantom import write_phantom
from lap_monai.label_space import get_label_space
from lap_monai.transforms import RandSurgicalAugmentd

NATIVE, SIZE = (480, 854), (240, 427)
KEYS = ("image", "label")


def to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def first_channel(mask: Image.Image) -> Image.Image:
    return mask.getchannel(0)


def monai_chain(*augmentation: Callable) -> Compose:
    """What a bundle with stock transforms only would load with. MONAI's image axes are (W, H)."""
    return Compose(
        [
            LoadImaged("image", reader="PILReader", converter=to_rgb),
            LoadImaged("label", reader="PILReader", converter=first_channel),
            EnsureChannelFirstd(KEYS),
            Resized(KEYS, SIZE[::-1], mode=["area", "nearest"]),
            ScaleIntensityRanged("image", 0, 255, 0, 1),
            *augmentation,
        ]
    )


def stock_augmentation() -> list[Callable]:
    """The paper's augmentation as far as stock transforms go."""
    return [
        RandZoomd(KEYS, prob=1.0, min_zoom=0.9, max_zoom=1.1, mode=["bilinear", "nearest"], keep_size=False),
        SpatialPadd(KEYS, (256, 256), mode="reflect"),
        RandSpatialCropd(KEYS, (256, 256), random_size=False),
        RandFlipd(KEYS, prob=0.5, spatial_axis=0),
        RandGaussianSmoothd("image", (0.8, 1.4), (0.8, 1.4), prob=0.5),
    ]


def require_same_pictures(ours: FrameDataset, theirs: Dataset) -> None:
    """Stop unless both contenders make the same thing, to one grey level."""
    difference = (ours[0]["image"] - theirs[0]["image"].as_tensor().transpose(1, 2)).abs().max().item()
    if difference > 1.01 / 255:
        raise SystemExit(f"the contenders' frames differ by {difference:.4f}")


def contenders(rows: list[Row], scratch: Path) -> dict[str, Callable[[], object]]:
    """Return the passes over all frames, by name."""
    cores, number = len(os.sched_getaffinity(0)), itertools.count()

    def build(workers: int) -> FrameCache:
        return FrameCache.build(rows, SIZE, scratch / f"cache{next(number)}", workers, progress=False)

    def monai_cache(*augmentation: Callable) -> CacheDataset:
        return CacheDataset(rows, monai_chain(*augmentation), num_workers=cores, progress=False)

    def each(samples: Dataset | FrameDataset) -> Callable[[], None]:
        def run() -> None:
            for index in range(len(rows)):
                samples[index]

        return run

    space = get_label_space("cholecseg8k_13")
    cache = build(cores)
    warm, augmented = (FrameDataset(rows, cache, space, transform) for transform in (None, RandSurgicalAugmentd()))
    monai = Dataset(rows, monai_chain())
    require_same_pictures(warm, monai)
    return {
        "monai": each(monai),
        "cold": lambda: build(cores),
        "monai_cache": monai_cache,
        "cold_one_thread": lambda: build(1),
        "warm": each(warm),
        "monai_cached_augmented": each(monai_cache(*stock_augmentation())),
        "warm_augmented": each(augmented),
    }


def main() -> None:
    """Write a phantom, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("loading.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        videos = 4
        root = write_phantom(
            Path(folder) / "phantom", videos=videos, frames=arguments.frames // videos, size=NATIVE[::-1]
        )
        rows = read_layout(root)
        seconds = interleaved(contenders(rows, Path(folder)), arguments.rounds)
    per_frame = {name: [time / len(rows) for time in times] for name, times in seconds.items()}
    write_report(
        arguments.out,
        per_frame,
        ratios={
            "monai/warm": {"goal": ">= 5"},
            "monai/cold": {"goal": ">= 2"},
            "monai/cold_one_thread": {},
            "monai_cache/cold": {},
            "monai_cached_augmented/warm_augmented": {},
        },
        settings={
            "frames": len(rows),
            "native": NATIVE,
            "size": SIZE,
            "unit": "seconds per frame, image and label",
            "load_average": os.getloadavg()[0],  # well above 1: others were using the machine, and `cold` its cores
        },
    )


if __name__ == "__main__":
    main()
