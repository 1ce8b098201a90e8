"""What a method with replay would reach if its generator were perfect.

The run folder of a stream is copied and the images of every synthetic set in it are replaced by frames of patients that
no part of the study knows, drawn from the classes of the set's step: what a generator would make that has learned the
frames' distribution without fault and without memory. Audit, labels by the teacher, training and scoring are then
done as always, and the scores stand beside those with the real generator. The difference is the most that a better
generator can give; what is missing to joint training beyond it lies elsewhere.

    python -m lap_monai stream STREAM --study STUDY --data DATA --out RUN
    python -m lap_monai phantom OTHERS --layout dsad --videos 48 --frames 6 --size 256x144 --seed 7
    python benchmarks/perfect_replay.py STREAM --study STUDY --data DATA --run RUN --others OTHERS --work WORK \\
        --out docs/evidence/perfect_replay.json

A phantom alone has frames of that many other patients. An interrupted run is continued by the same command.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from _common import machine
from PIL import Image

from lap_monai.files import read_json, write_json

#: Of a stage's folder, what follows from its images and is made anew.
FOLLOWS = ("state_audit.json", "audit.json", "report.html", "set/labels", "set/probabilities")


def exchange(stage: Path, frames: list[str], seed: int) -> None:
    """Put `frames` in the place of the images of a stage's set; its audit is due again, unless they were there."""
    manifest = read_json(stage / "set" / "manifest.json")
    height, width = manifest["generator"]["frame_size"]
    chosen = np.random.default_rng(seed).choice(frames, len(manifest["images"]), replace=False)
    before = [image["sha256"] for image in manifest["images"]]
    for image, frame in zip(manifest["images"], chosen, strict=True):
        path = stage / "set" / image["file"]
        Image.open(frame).convert("RGB").resize((width, height), Image.Resampling.BOX).save(path)
        image["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if before == [image["sha256"] for image in manifest["images"]]:
        return
    # The manifest last: with the new hashes in it an interrupted exchange would count as done.
    for name in FOLLOWS:
        path = stage / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for image in manifest["images"]:
        image |= {"scores": {}, "dropped": []}
    write_json(stage / "set" / "manifest.json", manifest | {"audit": None})


def prepare(args: argparse.Namespace) -> None:
    """Copy what the methods share, and exchange the images of its synthetic sets."""
    if not args.work.exists():
        partial = args.work.with_name(f".{args.work.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for part in ("shared", "steps"):
            shutil.copytree(args.run / part, partial / part)
        shutil.copy(args.run / "stream.json", partial)
        partial.rename(args.work)
    groups = read_json(args.work / "stream.json")["declared"]["groups"]
    for stage in sorted((args.work / "shared").glob("synthetic_*")):
        _, step, _, seed, _ = stage.name.split("_")
        frames = sorted(str(path) for group in groups[int(step)] for path in args.others.glob(f"{group}/*/image*.png"))
        exchange(stage, frames, int(seed))


def scores(run: Path, method: str) -> dict[str, dict[str, float]]:
    """Mean IoU of a method's last step per seed: over all structures, those of the earlier steps, those of the last."""
    *earlier, new = read_json(run / "stream.json")["declared"]["groups"]
    old = [*chain(*earlier)]
    parts = {"all": [*old, *new], "old": old, "new": new, "background": ["background"]}
    found = {}
    for seed in sorted((run / "cells" / method).glob("seed_*")):
        last = max(seed.glob("step_*"), key=lambda step: int(step.name.removeprefix("step_")), default=seed)
        if (last / "results.json").is_file():
            iou = read_json(last / "results.json")["rows"][0]["iou"]
            found[seed.name] = {part: mean(iou[name] for name in names) for part, names in parts.items()}
    return found


def kids(run: Path) -> dict[str, dict[str, float]]:
    """KID to the training frames, of each set's kept images and of new patients' frames, as its audit says."""
    return {
        path.parent.name.rpartition("_")[0]: {part: round(quality[part]["kid"], 4) for part in ("kept", "held_out")}
        for path in sorted((run / "shared").glob("synthetic_*/audit.json"))
        if (quality := read_json(path)["quality"])
    }


def summary(found: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds."""
    told = {}
    for key in next(iter(found.values()), {}):
        values = [row[key] for row in found.values()]
        told[key] = {
            "mean": round(mean(values), 4),
            "std": round(stdev(values), 4) if len(values) > 1 else None,
            "seeds": [round(value, 4) for value in values],
        }
    return told


def main() -> None:
    """Exchange, run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stream", type=Path, help="the stream's YAML")
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the data set of the run")
    parser.add_argument("--run", type=Path, required=True, help="finished run folder with the method")
    parser.add_argument("--others", type=Path, required=True, help="frames of other patients, in DSAD's layout")
    parser.add_argument("--work", type=Path, required=True, help="run folder to make")
    parser.add_argument("--method", default="ddcl")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/perfect_replay.json"))
    args = parser.parse_args()
    prepare(args)
    command = [sys.executable, "-m", "lap_monai", "stream", args.stream, "--study", args.study, "--data", args.data]
    command += ["--out", args.work, "--methods", args.method, "--jobs", args.jobs, "--resume"]
    subprocess.run([str(word) for word in command], check=True)
    contenders = {
        "generator": summary(scores(args.run, args.method)),
        "perfect": summary(scores(args.work, args.method)),
        "joint": summary(scores(args.run, "joint")),
    }
    write_json(
        args.out,
        {
            "description": (__doc__ or "").splitlines()[0],
            "method": args.method,
            "scores": contenders,
            "kid": {"generator": kids(args.run), "perfect": kids(args.work)},
            "settings": {"stream": args.stream.name, "study": args.study.name, "part": "test"},
            "machine": machine(),
        },
    )
    for name, found in contenders.items():
        print(f"{name:10s}", *(f"{key} {value['mean']:.3f} ± {value['std'] or 0:.3f}" for key, value in found.items()))
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
