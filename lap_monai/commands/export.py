"""`python -m lap_monai export`: a bundle's network for other runtimes, compared with the eager one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lap_monai.checks import UserError, require_dir
from lap_monai.keys import IMAGE, LABEL

if TYPE_CHECKING:
    from lap_monai.data import Row
    from lap_monai.inference import Bundle
    from lap_monai.packaging import ExportFrames

FORMS = ("torchscript", "onnx", "openvino", "openvino-int8", "triton")
#: Phantom frames to compare with where there are no data.
_PHANTOM_FRAMES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder, or a training's run folder")
    parser.add_argument(
        "--to", nargs="+", required=True, choices=FORMS, metavar="FORM", help=f"one or more of {', '.join(FORMS)}"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data set: training patients calibrate int8, validation patients judge every form (default: phantom "
        "frames, no int8)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="training config and overlays that say what the data set is and how it is split (default: those of the "
        "run, or the bundle's configs/train.json)",
    )
    parser.add_argument(
        "--frames", type=int, default=200, metavar="N", help="frames to calibrate on, and to judge by (default: 200)"
    )
    parser.add_argument(
        "--allow-loss", action="store_true", help="keep an int8 network that loses more than 0.5 points of mean IoU"
    )
    parser.epilog = "Example: python -m lap_monai export runs/first --to onnx openvino-int8 --data /data/CholecSeg8k"


def main(args: argparse.Namespace) -> int:
    """Export, and say how each form compares."""
    from lap_monai.inference import Bundle
    from lap_monai.packaging import export_bundle

    if args.frames < 1:
        raise UserError(f"--frames {args.frames} is none; give at least 1.")
    if args.bundle.is_file():
        raise UserError(f"{str(args.bundle)!r} is an archive; unpack it, the export goes into its folder.")
    bundle = Bundle.open(args.bundle)
    frames = _data_frames(args, bundle) if args.data else _phantom_frames(bundle)
    for form in args.to:
        record = export_bundle(bundle, form, frames, args.allow_loss)
        _print_record(bundle, record)
    return 0


def _print_record(bundle: Bundle, record: dict[str, Any]) -> None:
    parity = record["parity"]
    print(f"{record['form']}: {', '.join(str(bundle.weights.parent / name) for name in record['files'])}")
    text = (
        f"  against eager PyTorch on {parity['frames']} {record['frames']['origin']} frames: same class at "
        f"{parity['label_agreement']:.3%} of the pixels, logits differ by at most {parity['max_abs_difference']:.2g}"
    )
    if parity["mean_iou"] is not None and parity["mean_iou"]["change"] is not None:
        text += f", mean IoU {100 * parity['mean_iou']['eager']:.2f} {100 * parity['mean_iou']['change']:+.2f} points"
    print(text)


def _phantom_frames(bundle: Bundle) -> ExportFrames:
    from lap_monai.data.phantom import render_frame
    from lap_monai.packaging import ExportFrames

    prepare = bundle.preprocessing
    height, width = prepare.size or (240, 427)
    pictures = [render_frame(video=i, size=(width, height))[0] for i in range(_PHANTOM_FRAMES)]
    return ExportFrames((), [{IMAGE: prepare(picture)} for picture in pictures], "phantom")


def _data_frames(args: argparse.Namespace, bundle: Bundle) -> ExportFrames:
    """Masked frames of the training and validation patients, evenly spread over them."""
    from monai.bundle import ConfigParser

    from lap_monai.data import FrameCache, FrameDataset
    from lap_monai.experiments import find_user_error, merge_configs
    from lap_monai.packaging import ExportFrames

    files = args.config or [_training_config(args.bundle)]
    parser = ConfigParser(merge_configs(files, {"dataset_dir": str(require_dir(args.data, "The data set").resolve())}))
    parser.parse()
    try:
        space, parts = parser.get_parsed_content("space"), parser.get_parsed_content("parts")
        unknown = parser.get_parsed_content("unknown_values")
        cache_dir = parser.get_parsed_content("cache_dir")
    except Exception as error:  # MONAI wraps what the config's expressions raise
        raise find_user_error(error) or error from error
    if space.classes != bundle.label_space.classes:
        raise UserError(
            f"{str(files[-1])!r} has label space {space.name!r}, the bundle {bundle.label_space.name!r}; give the "
            "--config that the network was trained with."
        )
    train, val = (
        FrameDataset(
            rows := _spread([row for row in parts[part] if row[LABEL] is not None], args.frames),
            FrameCache.build(rows, bundle.preprocessing.size, cache_dir),
            space,
            unknown_values=unknown,
        )
        for part in ("train", "val")
    )
    return ExportFrames(train, val, args.data.name)


def _training_config(folder: Path) -> Path:
    """The merged config that a run keeps, or a bundle's own."""
    candidates = [folder / "config_train.json", *sorted(folder.glob("config_*.json")), folder / "configs/train.json"]
    return next((path for path in candidates if path.is_file()), candidates[-1])


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Return `count` rows at even distances; all, if there are no more."""
    return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))] if rows else []
