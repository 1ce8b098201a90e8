"""`python -m lap_monai phantom`: a synthetic surgical data set in the layout of a real one."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from lap_monai.data.layouts import LAYOUTS as READABLE
from lap_monai.data.phantom import LAYOUTS, write_phantom


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; must not hold anything yet")
    parser.add_argument("--layout", choices=LAYOUTS, default="cholecseg8k", help="whose folders and files to imitate")
    parser.add_argument("--videos", type=int, default=10, help="patients (default: %(default)s)")
    parser.add_argument(
        "--frames", type=int, default=40, help="frames per patient; dsad: per patient and organ (default: %(default)s)"
    )
    parser.add_argument("--clips", type=int, help="clips per patient that share the frames (default: one per 8 frames)")
    parser.add_argument("--size", type=_size, default=(854, 480), metavar="WxH", help="pixels (default: 854x480)")
    parser.add_argument("--seed", type=int, default=0, help="determines every pixel (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, help="threads; the result does not depend on it (default: one per processor)"
    )


def main(args: argparse.Namespace) -> int:
    """Write the data set and say what to do next."""
    out = write_phantom(
        args.out, args.layout, args.videos, args.frames, args.size, args.seed, args.clips, args.workers, progress=True
    )
    record = json.loads((out / "phantom.json").read_text(encoding="utf-8"))
    print(
        f"wrote {out}: {record['frames']} frames of {record['videos']} patients, {args.size[0]}x{args.size[1]}, "
        f"layout {args.layout}, phantom version {record['phantom_version']}, seed {record['seed']}"
    )
    if args.layout in READABLE:
        print(f"next: python -m lap_monai check {out}")
    return 0


def _size(text: str) -> tuple[int, int]:
    """Parse `WxH`."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 854x480")
    return int(match[1]), int(match[2])
