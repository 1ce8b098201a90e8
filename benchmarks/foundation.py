"""The main job on real frames: a network trained on Endoscapes-Seg50, scored there and on frames of other data sets.

Train and evaluate first (two CPU cores, 343 masked frames, about an hour), then collect:

    cd bundles/cholecseg8k_contrastive/configs
    CONFIGS="train.json endoscapes.json small.json supervised.json"
    python -m lap_monai run $CONFIGS budget=1.0 budget_unit=frame --data DATA/endoscapes_seg50 --out RUN
    python -m lap_monai run $CONFIGS evaluate.json budget=1.0 budget_unit=frame --data DATA/endoscapes_seg50 --out RUN
    python benchmarks/foundation.py --data DATA --run RUN --out docs/evidence/foundation.json

The network then segments, through the bundle's stock inference.json, CholecSeg8k's clips and frames of a Cholec80
video: other hospitals' labels, so only what both label spaces name alike, gallbladder and tools, is scored there.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from lap_monai.data import read_cholecseg8k, read_mask
from lap_monai.files import read_json, write_json
from lap_monai.keys import IGNORE_INDEX
from lap_monai.label_space import get_label_space
from lap_monai.metrics import confusion_matrix, iou

BUNDLE = Path(__file__).parents[1] / "bundles" / "cholecseg8k_contrastive"

#: What Endoscapes' and CholecSeg8k's label spaces both name, and by which classes.
SHARED = {
    "Other": None,
    "Gallbladder": (["Gallbladder"], ["Gallbladder"]),
    "Tool": (["Tool"], ["Grasper", "L-hook Electrocautery"]),
}


def segment(run: Path, frames: Path, out: Path, pattern: str) -> dict[str, Any]:
    """Run inference.json with the run's network over `frames`; return counts and times."""
    config = read_json(next(run.glob("config_*.json")))
    workflow = ConfigWorkflow(
        str(BUNDLE / "configs/inference.json"),
        meta_file=str(BUNDLE / "configs/metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(BUNDLE),
        dataset_dir=str(frames),
        pattern=pattern,
        ckpt_dir=str(run / "models"),
        output_dir=str(out),
        num_classes=get_label_space(config["label_space"]).num_classes,
        frame_size=config["frame_size"],
        window=config["window"],
        **{"network_def#features": config["backbone_def"]["features"]},
    )
    start = time.perf_counter()
    workflow.initialize()
    ready = time.perf_counter()
    workflow.run()
    seconds = time.perf_counter() - ready
    count = len(workflow.parser.get_parsed_content("images"))
    written = len(list(out.rglob("*.png")))
    return {
        "frames": count,
        "label_maps": written,
        "seconds_to_start": round(ready - start, 2),
        "seconds_per_frame": round(seconds / count, 4),
    }


def to_shared(space_name: str, side: int) -> np.ndarray:
    """Return a table from a label space's class ids to those of `SHARED`."""
    classes = get_label_space(space_name).classes
    table = np.zeros(256, np.uint8)
    table[IGNORE_INDEX] = IGNORE_INDEX
    for index, names in enumerate(SHARED.values()):
        for name in names[side] if names else ():
            table[classes.index(name)] = index
    return table


def score_clips(clips: Path, labels: Path, space_name: str) -> dict[str, Any]:
    """Compare the label maps of CholecSeg8k frames with their masks, on the classes that both spaces name."""
    truth_space = get_label_space("cholecseg8k_13")
    from_truth, from_prediction = to_shared("cholecseg8k_13", 1), to_shared(space_name, 0)
    by_video: dict[str, torch.Tensor] = {}
    for row in read_cholecseg8k(clips):
        truth = from_truth[truth_space.encode(np.asarray(read_mask(row["label"])))]
        file = labels / Path(row["image"]).relative_to(clips).with_name(f"{Path(row['image']).stem}_seg.png")
        prediction = from_prediction[np.asarray(Image.open(file))]
        counts = confusion_matrix(torch.from_numpy(prediction)[None], torch.from_numpy(truth)[None], len(SHARED))[0]
        by_video[row["video"]] = by_video.get(row["video"], 0) + counts
    return {
        video: {name: round(float(value), 4) for name, value in zip(SHARED, iou(counts[None].numpy()), strict=True)}
        for video, counts in by_video.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the research data sets")
    parser.add_argument("--run", type=Path, required=True, help="a finished and evaluated run on Endoscapes")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/foundation.json"))
    args = parser.parse_args()
    results = read_json(args.run / "results.json")
    history = read_json(args.run / "history.json")
    row = results["rows"][0]
    data = args.data.resolve()
    clips, video = data / "cholecseg8k", data / "cholec80" / "phase_frames"
    labels = args.run / "labels"
    report = {
        "endoscapes": {"row": row, "settings": results["config"]},
        "training": {
            "epochs": history[-1]["epoch"],
            "hours": round(sum(epoch["seconds"] for epoch in history) / 3600, 2),
            "val_mean_iou": [[epoch["epoch"], epoch["val_mean_iou"]] for epoch in history if "val_mean_iou" in epoch],
        },
        "inference": {
            "cholecseg8k_clips": segment(args.run, clips, labels / "cholecseg8k", "**/*_endo.png"),
            "cholec80_video01_frames": segment(args.run, video, labels / "cholec80", "**/*.jpg"),
        },
        "cross_dataset_iou": score_clips(clips, labels / "cholecseg8k", row["label_space"]),
        "to_beat": {
            "miou": 0.38,
            "iou": {
                "Background": 0.88, "Gallbladder": 0.67, "Tool": 0.69, "Cystic Duct": 0.19,
                "Cystic Artery": 0.12, "Cystic Plate": 0.12, "Calot Triangle": 0.05,
            },
            "what": "MONAI UNet 16-256 from scratch, weighted cross-entropy, 224x128, 60 epochs, one seed",
        },
        "versions": results["versions"],
        "git": results["git"],
    }  # fmt: skip
    write_json(args.out, report)
    print(f"mIoU {row['miou']:.3f} on {row['n_videos']} unseen patients; results: {args.out}")


if __name__ == "__main__":
    main()
