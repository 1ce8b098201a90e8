"""Timing that can be trusted, and its report: contenders in turn in one process, medians, ratios round by round."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import get_config_values

from lap_monai.files import write_json


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run the contenders in turn, `warmup + rounds` times, and return the seconds of the counted rounds by name."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(warmup + rounds):
        for name, run in contenders.items():
            start = clock()
            run()
            if round_ >= warmup:
                seconds[name].append(clock() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], names: str) -> dict[str, float]:
    """Return median and quartiles of `a/b`, taken round by round so that a drifting machine cancels out."""
    above, below = names.split("/")
    pairs = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
    return {"median": round(middle, 4), "lower_quartile": round(low, 4), "upper_quartile": round(high, 4)}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: str(version) for name, version in get_config_values().items()},
    }


def write_report(
    path: Path, seconds: Mapping[str, list[float]], ratios: Mapping[str, dict[str, Any]], settings: Mapping[str, Any]
) -> None:
    """Print the medians and ratios and write them as JSON.

    Args:
        path: the JSON file.
        seconds: name → seconds of each round.
        ratios: `"a/b"` → what to say beside the ratio, such as its goal.
        settings: what was run.
    """
    report = {
        "seconds": {name: round(statistics.median(times), 6) for name, times in seconds.items()},
        "ratios": {names: {**ratio(seconds, names), **extra} for names, extra in ratios.items()},
        "rounds": len(next(iter(seconds.values()))),
        "settings": dict(settings),
        "machine": machine(),
    }
    write_json(path, report)
    for name, median in report["seconds"].items():
        print(f"{name:24s} {median * 1e3:10.2f} ms")
    for names, value in report["ratios"].items():
        print(f"{names:36s} {value['median']:.3f}  ({value.get('goal', '')})")
    print(f"results: {path}")
