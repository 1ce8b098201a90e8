"""Put the validation curves of several training runs beside each other, with what their configs differ in.

    python benchmarks/compare_runs.py RUN [RUN ...] --out docs/evidence/NAME.json

The losses on Endoscapes at 112x64 were compared so (one seed; `class_weights.json`), from the bundle's configs folder:

    CONFIGS="train.json endoscapes.json small.json supervised.json"
    SIZE="frame_size=[64,112] window=[64,112] val_interval=3 budget=1.0 budget_unit=frame"
    python -m lap_monai run $CONFIGS $SIZE epochs=30 --data DATA --out RUNS/abl_square
    python -m lap_monai run $CONFIGS $SIZE epochs=30 loss#dice_class_weight=simple --data DATA --out RUNS/abl_simple
    python -m lap_monai run $CONFIGS balanced.json $SIZE epochs=18 --data DATA --out RUNS/abl_balanced

Curves are written whole: where runs differ in length, that shows.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lap_monai.files import read_json, write_json
from lap_monai.flatten import flatten

#: Where results lie says nothing about what was run.
PLACES = ("dir", "root", "_desc_")


def curve(run: Path) -> list[dict[str, Any]]:
    """Return the validated epochs of a run: mean IoU and the IoU of each class."""
    rows = [row for row in read_json(run / "history.json") if row.get("val_mean_iou") is not None]
    return [
        {"epoch": row["epoch"], **{k: round(v, 4) for k, v in row.items() if k.startswith("val_") and v is not None}}
        for row in rows
    ]


def differing(configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, by run, the settings that are not the same in all runs."""
    flat = {name: flatten(config) for name, config in configs.items()}
    keys = sorted({key for config in flat.values() for key in config if not any(place in key for place in PLACES)})
    varied = [key for key in keys if len({str(config.get(key)) for config in flat.values()}) > 1]
    return {name: {key: config.get(key) for key in varied} for name, config in flat.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    configs = {run.name: read_json(next(iter(sorted(run.glob("config_*.json"))))) for run in args.runs}
    differences = differing(configs)
    report = {run.name: {"settings": differences[run.name], "validation": curve(run)} for run in args.runs}
    write_json(args.out, report)
    for name, entry in report.items():
        last = entry["validation"][-1]
        print(f"{name:24s} epoch {last['epoch']:3d}  mIoU {last['val_mean_iou']:.3f}  {entry['settings']}")


if __name__ == "__main__":
    main()
