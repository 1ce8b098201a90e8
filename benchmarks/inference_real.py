"""Trained networks on real material: what a student and int8 cost in IoU, and whole runs on clips and videos.

The first part scores the validation patients of the teacher's training (mode `frame`, at the network's size, pooled
IoU; intervals resample patients): `teacher`, `student`, each also as `_int8` where `export --to openvino-int8` has left
one beside the weights, and `teacher_windows`: the same network in square windows of the frame's height with a quarter
overlap, which is what the bundle's windows are to its frames. Differences are to the teacher, in points.

The second part runs `predict` on each of `--inputs` with the student, quantised if it is, writing label maps and an
overlay, with smoothing: failures, flicker before and after, agreement of the labels with the student's eager ones, that
of the teacher's frames with its windows, and the speed, which means something on a quiet machine only.

    python -m lap_monai run bundles/cholecseg8k_contrastive/configs/{train,endoscapes,supervised}.json \\
        frame_size=[64,112] window=[64,112] budget=1.0 masked_per_batch=6 learning_rate=0.001 epochs=10 \\
        "lr_scheduler#patience=1" --data DATA/endoscapes_seg50 --out RUNS/teacher
    python -m lap_monai run bundles/cholecseg8k_contrastive/configs/{train,endoscapes,student}.json \\
        frame_size=[64,112] window=[64,112] budget=1.0 label_only_per_batch=0 epochs=15 \\
        "lr_scheduler#patience=1" teacher_checkpoint=RUNS/teacher/models/model.pt \\
        --data DATA/endoscapes_seg50 --out RUNS/student
    python -m lap_monai export RUNS/student --to openvino-int8 --data DATA/endoscapes_seg50 --frames 100
    python benchmarks/inference_real.py --teacher RUNS/teacher --student RUNS/student --data DATA/endoscapes_seg50 \\
        --inputs DATA/laparoscopic_video/*/*.mp4 DATA/cholecseg8k/video*/* DATA/endoscapes_seg50/val \\
        --out docs/evidence/inference_real.json
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import machine
from tqdm import tqdm

from lap_monai.data import FrameCache, FrameDataset, apply_split, load_split, read_layout
from lap_monai.files import read_json, write_json
from lap_monai.inference import Bundle, Options, Predictor, exported_model, open_source, predict
from lap_monai.keys import IMAGE, LABEL, VIDEO
from lap_monai.metrics import bootstrap_iou, class_iou, confusion_matrix, iou, miou, paired_difference, pool_by_video


def validation_frames(run: Path, bundle: Bundle, data: Path) -> tuple[FrameDataset, list[str]]:
    """The masked frames of the patients that the run was validated on, and whose each is."""
    config = read_json(next(iter(sorted(run.glob("config_*.json")))))
    rows = apply_split(read_layout(data, config["layout"]), load_split(config["split"]))["val"]
    rows = [row for row in rows if row[LABEL] is not None]
    cache = FrameCache.build(rows, bundle.preprocessing.size, None)
    frames = FrameDataset(rows, cache, bundle.label_space, unknown_values=config["unknown_values"])
    return frames, [str(row[VIDEO]) for row in rows]


def in_square_windows(run: Path, folder: Path) -> Bundle:
    """Open a copy of a run whose windows are as wide as its frames are high."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoint*"))
    for path in folder.glob("config_*.json"):
        config = read_json(path)
        write_json(path, config | {"window": [config["frame_size"][0]] * 2})
    return Bundle.open(folder)


def contenders(teacher: Bundle, windows: Bundle, student: Bundle) -> dict[str, Predictor]:
    """Name → predictor."""
    found = {
        "teacher": Predictor(teacher),
        "teacher_windows": Predictor(windows, "window"),
        "student": Predictor(student),
    }
    for name, bundle in (("teacher", teacher), ("student", student)):
        if exported_model(bundle, "openvino-int8") is not None:
            found[f"{name}_int8"] = Predictor(bundle, "frame", "openvino-int8", "cpu")
    return found


def accuracy(predictors: dict[str, Predictor], frames: FrameDataset, patients: list[str]) -> dict[str, Any]:
    """Score every predictor on every frame."""
    space = predictors["teacher"].bundle.label_space
    counts: dict[str, list[np.ndarray]] = {name: [] for name in predictors}
    same: dict[str, list[float]] = {name: [] for name in predictors}
    for index in tqdm(range(len(frames)), desc="validation frames", disable=None):
        sample = frames[index]
        ids = {name: predictor.infer([sample[IMAGE]])[0][0].argmax(0) for name, predictor in predictors.items()}
        for name, classes in ids.items():
            counts[name].append(confusion_matrix(classes[None], sample[LABEL], space.num_classes)[0].numpy())
            same[name].append(float((classes == ids["teacher"]).float().mean()))
    scores = {name: iou(np.stack(matrices)) for name, matrices in counts.items()}
    by_patient = {
        name: np.array([miou(row) for row in class_iou(pool_by_video(np.stack(matrices), patients)[1])])
        for name, matrices in counts.items()
    }
    report: dict[str, Any] = {"frames": len(frames), "patients": len(set(patients))}
    for name, values in scores.items():
        difference = paired_difference(by_patient[name][None], by_patient["teacher"][None])
        report[name] = {
            "mean_iou": miou(values),
            "mean_iou_interval": bootstrap_iou(np.stack(counts[name]), patients).miou,
            "iou": dict(zip(space.classes, values, strict=True)),
            "labels_as_teacher": float(np.mean(same[name])),
            "points_to_teacher": 100 * (miou(values) - miou(scores["teacher"])),
            "points_to_teacher_per_patient": difference.difference and 100 * difference.difference,
            "interval_of_that": difference.interval and [100 * bound for bound in difference.interval],
        }
    return report


def prediction_run(path: Path, student: Bundle, windows: Bundle) -> dict[str, Any]:
    """Run `predict` on one input and return what its record says."""
    engine = "openvino-int8" if exported_model(student, "openvino-int8") else "openvino"
    source = open_source(path)
    with tempfile.TemporaryDirectory() as folder:
        options = Options(write=["labels", "overlay", "report"], smooth=0.6, progress=True)
        record = predict(source, Predictor(student, "frame", engine, "cpu"), Path(folder, "out"), options)
    keys = ("frames", "failures", "fps", "milliseconds", "agreement", "flicker")
    images = [item.image for item, _ in zip(source.items(), range(4), strict=False) if hasattr(item, "image")]
    return {
        "engine": engine,
        "size": [images[0].shape[1], images[0].shape[0]],
        **{key: record[key] for key in keys},
        "teacher_frames_as_windows": round(Predictor(windows, "frame", "torch", "cpu").agreement(images), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, metavar="RUN")
    parser.add_argument("--student", type=Path, required=True, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the set that both were trained on")
    parser.add_argument("--inputs", type=Path, nargs="*", default=[], metavar="PATH", help="what to run predict on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    teacher, student = Bundle.open(args.teacher), Bundle.open(args.student)
    with tempfile.TemporaryDirectory() as folder:
        windows = in_square_windows(args.teacher, Path(folder, "windows"))
        report = {
            "settings": {
                name: {
                    key: read_json(run / "run.json")["settings"][key]
                    for key in ("method", "budget", "frame_size", "window", "seed")
                }
                | {"epochs": len(read_json(run / "history.json"))}
                for name, run in (("teacher", args.teacher), ("student", args.student))
            },
            "accuracy": accuracy(
                contenders(teacher, windows, student), *validation_frames(args.teacher, teacher, args.data)
            ),
            "runs": {f"{path.parent.name}/{path.name}": prediction_run(path, student, windows) for path in args.inputs},
            "machine": machine(),
        }
    write_json(args.out, report)
    for name, values in report["accuracy"].items():
        if isinstance(values, dict):
            print(f"{name:16s} mean IoU {values['mean_iou']:.3f}  {values['points_to_teacher']:+.2f} points")
    for name, values in report["runs"].items():
        print(f"{name:40s} {values['frames']} {values['fps']} fps, flicker {values['flicker']}")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
