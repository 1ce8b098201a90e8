"""`python -m lap_monai stream`: the steps of a class-incremental stream."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "stream", type=Path, metavar="STREAM", help="stream file, such as configs/streams/phantom_demo.yaml"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data set folder")
    parser.add_argument(
        "--dry-run", action="store_true", required=True, help="count frames, patients and pixels of each step"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all counts and findings to a file")
    parser.epilog = "Exit status: 0 if the stream can be run as it is, 1 if not."


def main(args: argparse.Namespace) -> int:
    """Plan a stream over a data set and print what each step would learn from."""
    from lap_monai.data import open_stream
    from lap_monai.experiments.stream_dry_run import stream_dry_run
    from lap_monai.experiments.stream_file import load_stream
    from lap_monai.files import write_json

    plan = open_stream(load_stream(args.stream), args.data, progress=sys.stderr.isatty())
    print("\n".join(stream_dry_run(plan)))
    if args.json is not None:
        print(f"Everything in numbers: {write_json(args.json, plan.to_json())}")
    return 0
