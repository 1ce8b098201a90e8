"""`python -m lap_monai predict INPUT --bundle B --out DIR`: a trained bundle at work."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lap_monai.checks import UserError

#: Exit status of a run that finished although some frames failed.
SOME_FAILED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a frame, a folder of frames, a video, NIfTI or DICOM, or live: a capture device's index (0) or a stream "
        "of this machine (rtsp://127.0.0.1:8554/scope)",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        required=True,
        metavar="B",
        help="a bundle's folder or archive, or a training's run folder",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--write",
        default="labels,overlay,report",
        metavar="NAMES",
        help="of labels, overlay, probabilities, uncertainty, nifti, seg (of DICOM), report "
        "(default: %(default)s); frames.csv and run.json are always written",
    )
    parser.add_argument("--kind", metavar="KIND", help="read INPUT as frames, video, … (default: find out)")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was broken off (no live one)")
    parser.add_argument("--frames", type=int, metavar="N", help="end after N frames, dropped ones not counted")
    parser.add_argument("--keep-identifiers", action="store_true", help="let paths, times and headers into the results")
    parser.add_argument(
        "--safe",
        action="store_true",
        help="open B only if all that is built of its config is stock classes and plain values; engine torch only",
    )
    how = parser.add_argument_group("how it computes")
    how.add_argument(
        "--mode",
        choices=("window", "frame"),
        default="frame",
        help="window: the bundle's sliding window, its labels to the bit; frame: the whole frame at once, faster "
        "(default: %(default)s)",
    )
    how.add_argument("--engine", default="torch", metavar="NAME", help="what runs the network (default: %(default)s)")
    how.add_argument("--device", metavar="NAME", help="cpu, cuda:1, … (default: the first GPU if there is one)")
    how.add_argument("--precision", metavar="NAME", help="float32, float16 or bfloat16 (default: the device's)")
    how.add_argument("--batch-size", type=int, metavar="N", help="frames at once (default: 16 on a GPU, else 1)")
    how.add_argument("--smooth", type=float, metavar="W", help="average over time with weight W, such as 0.6")
    how.add_argument("--skip-black", action="store_true", help="pass over frames that show nothing")
    how.add_argument("--uncertainty", action="store_true", help="segment mirrored frames too and note the entropy")
    how.add_argument(
        "--no-compare", action="store_true", help="do not measure the agreement with the bundle's inference"
    )
    look = parser.add_argument_group("how overlays look")
    look.add_argument("--side-by-side", action="store_true", help="show the plain frame beside the painted one")
    look.add_argument("--no-legend", action="store_true", help="do not name the classes below the picture")
    parser.epilog = (
        f"Exit status: 0 if every frame was segmented, {SOME_FAILED} if some failed (frames.csv says which), 1 if all "
        "failed or the run could not be done, 130 if Ctrl-C broke it off. "
        "A bundle's config may be code: open bundles of others with --safe."
    )


def main(args: argparse.Namespace) -> int:
    """Segment the input, and say what came of it."""
    _check(args)
    from lap_monai.inference import Bundle, Options, Predictor, open_source, predict, skip_black

    source = open_source(args.input, args.kind)
    predictor = Predictor(
        Bundle.open(args.bundle, args.safe),
        mode=args.mode,
        engine=args.engine,
        device=args.device,
        precision=args.precision,
        batch_size=args.batch_size,
        uncertainty=args.uncertainty,
    )
    options = Options(
        write=[name.strip() for name in args.write.split(",") if name.strip()],
        resume=args.resume,
        side_by_side=args.side_by_side,
        legend=not args.no_legend,
        smooth=args.smooth,
        frame_filter=skip_black if args.skip_black else None,
        most_frames=args.frames,
        compare=not args.no_compare,
        keep_identifiers=args.keep_identifiers,
        progress=sys.stderr.isatty(),
    )
    record = predict(source, predictor, args.out, options, where=args.input)
    for line in describe(record):
        print(line)
    print(f"results: {args.out}")
    return SOME_FAILED if record["frames"].get("failed") else 0


def describe(record: dict[str, Any]) -> list[str]:
    """Return what a finished run came to, in a few lines."""
    frames = record["frames"]
    counts = ", ".join(f"{number} {status}" for status, number in frames.items() if number)
    speed = f", {record['fps']} frames a second" if record["fps"] else ""
    lines = [f"frames: {counts}{speed} on {record['device']}"]
    if record["milliseconds"]:
        stages = ", ".join(f"{stage} {values['p50']}" for stage, values in record["milliseconds"].items())
        lines.append(f"milliseconds a frame (median): {stages}")
    if record["agreement"] is not None:
        lines.append(f"agreement with the bundle's own inference: {100 * record['agreement']:.2f} % of pixels")
    if record["flicker"]:
        before, after = record["flicker"]["before"], record["flicker"]["after"]
        lines.append(f"flickering pixels: {100 * before:.2f} %, smoothed {100 * after:.2f} %")
    lines += [f"failed: {failure['name']} {failure['error']}" for failure in record["failures"][:5]]
    return lines


def _check(args: argparse.Namespace) -> None:
    if args.frames is not None and args.frames < 1:
        raise UserError(f"--frames {args.frames}: give at least 1.")
    if args.smooth is not None and not 0 <= args.smooth < 1:
        raise UserError(f"--smooth {args.smooth}: give a weight from 0 to below 1, such as 0.6.")
    if args.safe and args.engine != "torch":
        raise UserError(f"--safe does not go with --engine {args.engine}: exported networks cannot be looked into.")
    inside = Path(args.input).is_dir() and args.out.resolve().is_relative_to(Path(args.input).resolve())
    if inside:
        raise UserError("--out lies inside the input folder, whose frames the results would join; name one outside.")
