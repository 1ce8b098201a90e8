"""Small batches with a memory of features beside the paper's large batches: score, peak memory and time of a step.

Three trainings of the same network for the same number of steps (`configs/tables/phantom_memory.yaml`): on batches of
200 images, and on batches of 32 with and without a memory of the 168 images before. The table gives their scores on
unseen phantom patients, five draws of the masks each. Time and memory of a step are measured here, every contender in a
process of its own, because the peak of a process never falls; the processes take turns.

    python -m lap_monai phantom PHANTOM --videos 24 --frames 24 --size 256x144 --seed 0
    python -m lap_monai table configs/tables/phantom_memory.yaml --data PHANTOM --out RUN --jobs 2
    python benchmarks/memory_bank.py --table RUN --out docs/evidence/memory_bank.json
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _common import machine, ratio
from _engine import mixed_batch, one_batch_trainer, step
from monai.networks.nets import BasicUNet

from lap_monai.files import read_json, write_json
from lap_monai.handlers import CrossBatchMemory, LossInjector, PrepareMixedBatch, UnpackOutputs
from lap_monai.losses import ClassContrastiveLoss, MultiLabelLoss, SegmentationLoss
from lap_monai.networks import MultiTaskSegmenter

CLASSES, FEATURES, SIZE = 8, (8, 16, 32, 64, 128, 8), (48, 80)

#: Row of the table → images with masks, images without, size of the memory.
CONTENDERS = {"batch_200": (60, 140, 0), "batch_32": (10, 22, 0), "batch_32_memory": (10, 22, 168)}


def measure(name: str, steps: int) -> dict[str, float]:
    """Return seconds of a step (median) and what the steps add to the peak of this process, in MiB."""
    masked, label_only, memory = CONTENDERS[name]
    torch.manual_seed(0)
    data = mixed_batch(masked, label_only, SIZE, CLASSES)
    unet = BasicUNet(spatial_dims=2, in_channels=3, out_channels=CLASSES, features=FEATURES)
    network = MultiTaskSegmenter(unet, CLASSES)
    inputs = ["embeddings", "classes", "phase", *(["memory"] if memory else [])]
    cpu = torch.device("cpu")
    engine = one_batch_trainer(
        network,
        data,
        cpu,
        loss_function=SegmentationLoss(),
        prepare_batch=PrepareMixedBatch(),
        train_handlers=[
            UnpackOutputs(),
            LossInjector("dcl", ClassContrastiveLoss(), inputs, weight=0.1),
            LossInjector("cls", MultiLabelLoss(), ["class_logits", "classes"], weight=0.01),
            *([CrossBatchMemory(memory)] if memory else []),
        ],
    )
    before = _peak_mib()
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        step(engine, cpu)
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[1:]), "mib": _peak_mib() - before}


def _peak_mib() -> float:
    """Peak resident memory of this process; Linux counts it in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def in_turns(rounds: int, steps: int) -> dict[str, list[dict[str, float]]]:
    """Measure every contender `rounds` times, each time in a new process."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, values in measured.items():
            words = [sys.executable, __file__, "--contender", name, "--steps", str(steps)]
            values.append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    return measured


def scores(run: Path) -> dict[str, Any]:
    """Return what the table says: mean IoU by row, and the comparisons between rows."""
    table = read_json(run / "results.json")
    return {key: table[key] for key in ("table", "description", "not_done", "summary", "comparisons")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="run folder of configs/tables/phantom_memory.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/memory_bank.json"))
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(measure(args.contender, args.steps)))
        return
    measured = in_turns(args.rounds, args.steps)
    report: dict[str, Any] = {
        name: {key: round(statistics.median(value[key] for value in values), 3) for key in ("seconds", "mib")}
        for name, values in measured.items()
    }
    ratios = {}
    for key in ("seconds", "mib"):
        values = {name: [value[key] for value in rounds] for name, rounds in measured.items()}
        ratios[key] = {
            f"{name}/batch_200": ratio(values, f"{name}/batch_200") for name in CONTENDERS if name != "batch_200"
        }
    write_json(
        args.out,
        {
            "step": report,
            "ratios": ratios,
            "scores": scores(args.table) if args.table else None,
            "settings": {"features": FEATURES, "size": SIZE, "rounds": args.rounds, "steps": args.steps},
            "machine": machine(),
        },
    )
    for name, value in report.items():
        print(f"{name:20s} {value['seconds'] * 1e3:8.0f} ms  {value['mib']:8.0f} MiB above the idle process")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
