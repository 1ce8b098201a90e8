"""Speed and value of `ClassContrastiveLoss` beside pytorch-metric-learning's `SupConLoss`, forward and backward.

The batch of Zhang et al. 2024: 200 images, three scales, 128 features each, temperature 0.07. `SupConLoss` takes one
scale and integer labels, so it is called once per scale, and its labels, one per pair of class vector and phase, are
made before the clock starts. The two run in turn; the figures are medians. Goal: at least 2x faster, values equal to
1e-5.

    python benchmarks/dcl_loss.py [--out docs/evidence/dcl_loss.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_metric_learning
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor

from lap_monai.losses import ClassContrastiveLoss, share_without_positive

TEMPERATURE = 0.07


def make_batch(images: int, width: int, scales: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return embeddings, class vectors and phases; the last few images have no positive."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, 2, (20, 8), generator=generator).float()
    kind = torch.randint(0, 20, (images,), generator=generator)
    classes, phase = kinds[kind], kind % 7
    phase[-5:] = torch.arange(100, 105)
    embeddings = [torch.randn(images, width, generator=generator, requires_grad=True) for _ in range(scales)]
    return embeddings, classes, phase


def timed(step: Callable[[], Tensor], embeddings: list[Tensor]) -> tuple[float, float]:
    """Return the seconds that a forward and backward pass takes, and the value."""
    for embedding in embeddings:
        embedding.grad = None
    start = time.perf_counter()
    value = step()
    value.backward()
    return time.perf_counter() - start, value.item()


def compare(images: int, width: int, scales: int, rounds: int) -> dict[str, Any]:
    """Return medians in milliseconds, their ratio and the differences of values and gradients."""
    embeddings, classes, phase = make_batch(images, width, scales)
    labels = torch.cat([classes, phase[:, None].float()], dim=1).unique(dim=0, return_inverse=True)[1]
    ours, theirs = ClassContrastiveLoss(TEMPERATURE), SupConLoss(TEMPERATURE)

    def our_step() -> Tensor:
        return ours(embeddings, classes, phase)

    def their_step() -> Tensor:
        return torch.stack([theirs(embedding, labels) for embedding in embeddings]).sum()

    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    values, gradients = {}, {}
    for round_ in range(rounds + 5):
        for name, step in (("ours", our_step), ("theirs", their_step)):
            elapsed, values[name] = timed(step, embeddings)
            gradients[name] = torch.cat([embedding.grad for embedding in embeddings])
            if round_ >= 5:  # the first rounds warm up
                seconds[name].append(elapsed)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    pairs = [their / our for our, their in zip(seconds["ours"], seconds["theirs"], strict=True)]
    quartiles = statistics.quantiles(pairs, n=4)
    return {
        "images": images,
        "width": width,
        "scales": scales,
        "rounds": rounds,
        "share_without_positive": share_without_positive(classes, phase).item(),
        "lap_monai_ms": round(median["ours"] * 1e3, 3),
        "pytorch_metric_learning_ms": round(median["theirs"] * 1e3, 3),
        "times_faster": round(median["theirs"] / median["ours"], 2),
        "times_faster_quartiles_of_pairs": [round(quartile, 2) for quartile in quartiles],
        "value": values["ours"],
        "value_relative_difference": abs(values["ours"] - values["theirs"]) / abs(values["theirs"]),
        "gradient_largest_difference": (gradients["ours"] - gradients["theirs"]).abs().max().item(),
        "gradient_largest": gradients["theirs"].abs().max().item(),
    }


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--scales", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = compare(arguments.images, arguments.width, arguments.scales, arguments.rounds)
    result["goal_met"] = result["times_faster"] >= 2 and result["value_relative_difference"] <= 1e-5
    result["threads"] = arguments.threads
    result["versions"] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_metric_learning": pytorch_metric_learning.__version__,
    }
    text = json.dumps(result, indent=4)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
