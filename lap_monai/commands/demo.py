"""`python -m lap_monai demo`: the main job from an empty folder to a report, on phantom data."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lap_monai.checks import UserError
from lap_monai.files import read_json

if TYPE_CHECKING:
    from lap_monai.label_space import LabelSpace

BUNDLE = Path("bundles/cholecseg8k_contrastive")

#: Size of the phantom: enough patients for a split, small enough for two cores.
VIDEOS, FRAMES, SIZE = 20, 16, (256, 144)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="fewer for a quick look; default: what configs/demo.json says")
    parser.add_argument("--seed", type=int, default=0, help="of the phantom, the split and the training")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="the bundle to run (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """Write a phantom, train, evaluate, segment frames, say where to look. Called again, go on where it stopped."""
    from lap_monai.data.phantom import write_phantom
    from lap_monai.experiments import run_bundle

    started = time.monotonic()
    configs = args.bundle / "configs"
    if not configs.is_dir():
        raise UserError(f"No bundle at {str(args.bundle)!r}; run this from the checkout's folder, or give --bundle.")
    data = args.out / "phantom"
    _check(args, data)
    base = [configs / name for name in ("train.json", "phantom.json", "demo.json")]
    shared: dict[str, Any] = {
        "bundle_root": str(args.bundle),
        "dataset_dir": str(data),
        "cache_dir": str(args.out / "cache"),
        "output_dir": str(args.out),
        "ckpt_dir": str(args.out / "models"),
        "seed": args.seed,
    }
    if args.epochs is not None:
        shared["epochs"] = args.epochs

    _headline(1, f"phantom: {VIDEOS} patients, {VIDEOS * FRAMES} frames")
    if not data.is_dir():
        write_phantom(data, videos=VIDEOS, frames=FRAMES, size=SIZE, seed=args.seed, progress=True)
    _headline(2, "training: a quarter of the masks, image-level labels for the rest")
    run_bundle(base, {**shared, "resume": "auto"}, args.out / "config_train.json")
    _headline(3, "evaluation on patients that training never saw")
    workflow = run_bundle([*base, configs / "evaluate.json"], shared, args.out / "config_evaluate.json")
    _headline(4, "inference: a label map for every frame of one such patient")
    video = workflow.parser.get_parsed_content("split_def").test[0]
    run_bundle([configs / "inference.json"], _inference(args, workflow, data / video), workflow_type="inference")
    rows = [row for row in workflow.parser.get_parsed_content("datalist") if row["video"] == video]
    picture = _picture(args.out, rows[:: max(len(rows) // 3, 1)][:3], workflow.parser.get_parsed_content("space"))

    minutes = (time.monotonic() - started) / 60
    score = read_json(args.out / "results.json")["rows"][0]["miou"]
    print(f"\ndone in {minutes:.1f} min: mean IoU {score:.3f} on unseen phantom patients")
    print(f"look at    {args.out / 'report.html'} and {picture}")
    print(f"figures    {args.out / 'results.json'}, label maps {args.out / 'labels'}")
    print("next       python -m lap_monai check DIR      (a folder of your own; then see README.md, 'Your own data')")
    return 0


def _check(args: argparse.Namespace, data: Path) -> None:
    if args.epochs is not None and args.epochs < 1:
        raise UserError(f"--epochs {args.epochs}: give at least 1.")
    record = data / "phantom.json"
    if record.is_file() and (seed := read_json(record)["seed"]) != args.seed:
        raise UserError(f"{str(args.out)!r} holds the demo of seed {seed}, not {args.seed}; give another --out.")


def _inference(args: argparse.Namespace, workflow: Any, frames: Path) -> dict[str, Any]:
    """The overrides that make inference.json fit the demo's small network."""
    parser = workflow.parser
    return {
        "dataset_dir": str(frames),
        "pattern": "**/*_endo.png",
        "ckpt_dir": str(args.out / "models"),
        "output_dir": str(args.out / "labels"),
        "frame_size": parser["frame_size"],
        "window": parser["window"],
        "network_def#features": parser["backbone_def"]["features"],
    }


def _picture(out: Path, rows: Sequence[Mapping[str, Any]], space: LabelSpace) -> Path:
    """Draw frame, truth and prediction of each row side by side."""
    from lap_monai.data import read_frame, read_mask
    from lap_monai.reports import overlay, write_panel

    sheet = []
    for row in rows:
        frame = np.asarray(read_frame(row["image"]))
        truth = space.encode(np.asarray(read_mask(row["label"])))
        file = out / "labels" / row["clip"] / f"{Path(row['image']).stem}_seg.png"
        prediction = np.asarray(read_mask(file))
        sheet.append([frame, overlay(frame, truth, space.colours), overlay(frame, prediction, space.colours)])
    return write_panel(out / "demo.png", sheet)


def _headline(number: int, text: str) -> None:
    print(f"\n[{number}/4] {text}", flush=True)
