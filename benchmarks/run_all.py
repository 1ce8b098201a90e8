"""Every benchmark that needs nothing prepared, in its smallest setting, and one table of what they found.

A look at whether all of them still run and point the right way, in minutes; the figures of docs/evidence come from the
full settings, see benchmarks/README.md. Reports go to `--out`, one file a benchmark.

    python benchmarks/run_all.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lap_monai.files import read_json

HERE = Path(__file__).parent
#: Benchmark → its smallest setting.
SMALLEST = {
    "dcl_loss": "--rounds 30",
    "step_overhead": "--masked 3 --label-only 7 --size 64 --rounds 3",
    "loading": "--frames 16 --rounds 3",
    "training": "--networks 4-16 --most-steps 3 --rounds 3 --frames 16 --options-network 4-16",
    "training_memory": "--size 64 64",
    "memory_bank": "--rounds 1 --steps 1",
    "incremental_step": "--images 4 --size 64 --features 8 16 32 64 128 8 --memory 100 --rounds 3",
    "generator_step": "--batch 4 --rounds 3 --contenders eager plain_attention channels_last",
    "inference": "--count 2 --rounds 1 --engines torch",
    "cost_model": "",
}


def figures(report: Any, name: str = "") -> Iterator[tuple[str, float, str]]:
    """Every ratio of a report with its goal; of one without ratios, what it calls `times_faster` or computes."""
    if not isinstance(report, dict):
        return
    if "median" in report and "lower_quartile" in report:
        yield name, report["median"], str(report.get("goal", ""))
        return
    for key, value in report.items():
        if key in ("times_faster", "mib_per_image"):
            yield f"{name} {key}".strip(), value, ""
        elif key not in ("settings", "machine", "measured", "ratios", "networks", "computed"):
            yield from figures(value, f"{name} {key}".strip())
        elif key != "settings":
            yield from figures(value, name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SMALLEST, default=list(SMALLEST))
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines, failed = [], []
    for name in args.only:
        report, log = args.out / f"{name}.json", args.out / f"{name}.log"
        start = time.perf_counter()
        words = [sys.executable, str(HERE / f"{name}.py"), *SMALLEST[name].split(), "--out", str(report)]
        with log.open("w") as file:
            status = subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
        print(f"{name}: {'done' if status == 0 else f'failed, see {log}'} in {time.perf_counter() - start:.0f} s")
        if status:
            failed.append(name)
        else:
            lines += [(name, *row) for row in figures(read_json(report))]
    print(f"\n{'benchmark':18s} {'figure':44s} {'value':>9s}  goal (of the full setting)")
    for benchmark, name, value, goal in lines:
        print(f"{benchmark:18s} {name:44s} {value:9.3f}  {goal}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
