"""What a training step of the paper's recipe takes in memory, by option, and which batch fits where.

The recipe: 200 images of 256x256 a step, three in ten with masks, a U-Net of 32 to 512 channels, contrast and
classification. Options:

- `default`: everything is kept for the backward pass;
- `checkpointing`: `checkpointing.json`, blocks keep their input alone;
- `gradient_cache`: `gradient_cache.json`, the activations of `--portion` images at once;
- `both`: the two together.

**Measured**: the peak resident memory that a step adds to an idle process, at two batch sizes (`--images`), in float32,
each in a process of its own, because a peak never falls. **Computed**: the line through both points, and from it the
memory of 200 images and the largest batch, in tens, that fits into so many GiB. A GPU's allocator, cuDNN's workspaces
and half precision are not in it. `memory.json` needs no row: it takes a smaller batch (32 images and 168 remembered
ones stand for 200), and its memory is that of `default` at that size plus 1.5 KB for each remembered image.

    python benchmarks/training_memory.py --out docs/evidence/training_memory.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _common import machine
from monai.networks.nets import BasicUNet

from lap_monai.files import write_json
from lap_monai.losses import ClassContrastiveLoss, MultiLabelLoss, SegmentationLoss
from lap_monai.networks import MultiTaskSegmenter, checkpoint_blocks

CLASSES = 8
#: Option → whether blocks are checkpointed, whether portions are.
OPTIONS = {
    "default": (False, False),
    "checkpointing": (True, False),
    "gradient_cache": (False, True),
    "both": (True, True),
}
GIB = (8, 12, 16, 24, 48, 80)
PAPER = 200  # images a step


def measure(option: str, images: int, args: argparse.Namespace) -> dict[str, float]:
    """Return what a step adds to this process's peak in MiB, and its seconds."""
    blocks, portions = OPTIONS[option]
    torch.manual_seed(0)
    masked = images * 3 // 10
    data, labels = torch.rand(images, 3, *args.size), torch.randint(CLASSES, (masked, 1, *args.size))
    classes = torch.randint(2, (images // 5, CLASSES)).float().repeat(5, 1)
    backbone = BasicUNet(spatial_dims=2, in_channels=3, out_channels=CLASSES, features=args.features)
    network = MultiTaskSegmenter(
        checkpoint_blocks(backbone) if blocks else backbone, CLASSES, portion=args.portion if portions else None
    ).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    before = _peak_mib()
    start = time.perf_counter()
    output = network(data, decode=masked)
    loss = SegmentationLoss()(output.logits, labels) + 0.1 * ClassContrastiveLoss()(output.embeddings, classes)
    loss = loss + 0.01 * MultiLabelLoss()(output.class_logits, classes)
    del output
    loss.backward()
    optimizer.step()
    return {"mib": _peak_mib() - before, "seconds": time.perf_counter() - start}


def _peak_mib() -> float:
    """Peak resident memory of this process; Linux counts it in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def in_own_process(option: str, images: int) -> dict[str, float]:
    words = [sys.executable, __file__, *sys.argv[1:], "--contender", option, str(images)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def extrapolate(points: dict[int, dict[str, float]]) -> dict[str, Any]:
    """The line through two measured points, and what it says of larger batches."""
    (few, low), (many, high) = sorted(points.items())
    slope = (high["mib"] - low["mib"]) / (many - few)
    fixed = low["mib"] - slope * few
    fits = {f"{gib} GiB": max(int((gib * 2**10 - fixed) / slope) // 10 * 10, 0) for gib in GIB}
    return {
        "mib_per_image": round(slope, 1),
        "mib_fixed": round(fixed, 1),
        f"gib_of_{PAPER}_images": round((fixed + slope * PAPER) / 2**10, 1),
        "largest_batch": fits,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs=2, default=(10, 20), help="two batch sizes, multiples of 10")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("H", "W"))
    parser.add_argument(
        "--features", type=int, nargs=6, default=(32, 64, 128, 256, 512, 32), help="widths of the U-Net"
    )
    parser.add_argument("--portion", type=int, default=5, help="images whose activations are kept at once")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/training_memory.json"))
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        option, images = args.contender
        print(json.dumps(measure(option, int(images), args)))
        return
    measured = {name: {count: in_own_process(name, count) for count in args.images} for name in OPTIONS}
    computed = {name: extrapolate(points) for name, points in measured.items()}
    settings = {"size": args.size, "features": args.features, "portion": args.portion, "precision": "float32"}
    report = {"measured": measured, "computed": computed, "settings": settings, "machine": machine()}
    write_json(args.out, report)
    for name, values in computed.items():
        largest = ", ".join(f"{count} in {gib}" for gib, count in values["largest_batch"].items())
        print(f"{name:16s} {values['mib_per_image']:8.1f} MiB an image (computed); largest batch: {largest}")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
