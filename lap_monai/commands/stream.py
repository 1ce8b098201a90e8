"""`python -m lap_monai stream`: the steps of a class-incremental stream, under any number of methods."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lap_monai.checks import UserError
from lap_monai.commands.table import add_tracking, positive, say, sigterm_ends, tracking_of

if TYPE_CHECKING:
    from lap_monai.data import Stream
    from lap_monai.experiments.runner import Start
    from lap_monai.experiments.stream_study import StreamStudy
    from lap_monai.experiments.table_tracking import TableTracking

#: Which methods there are, and how their networks are trained.
STUDY = Path("configs/studies/methods.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "stream",
        type=Path,
        metavar="STREAM",
        help="stream file, such as configs/streams/phantom_demo.yaml, or a study that lists streams",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data set folder")
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder of the stream")
    parser.add_argument("--methods", type=_names, metavar="A,B", help="methods (default: those that the study runs)")
    parser.add_argument("--seeds", type=_numbers, metavar="0,1", help="seeds of the trainings (default: the study's)")
    parser.add_argument(
        "--study",
        type=Path,
        default=STUDY,
        metavar="FILE",
        help="which methods there are and how networks are trained (default: %(default)s)",
    )
    parser.add_argument("--resume", action="store_true", help="go on in a folder that holds this stream")
    parser.add_argument(
        "--until", type=_number, metavar="STEP", help="stop after this step; later ones need --resume and no --until"
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="methods at a time (default: 1)")
    add_tracking(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="count frames, patients and pixels of each step; run nothing"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="with --dry-run: write all counts and findings")
    parser.add_argument(
        "--time",
        action="store_true",
        help="with --dry-run: do some iterations of every run, and say how long all take",
    )
    parser.epilog = "Exit status: 0 if every step that was asked for has its results, or the plan can be run; 1 if not."


def main(args: argparse.Namespace) -> int:
    """Run what is missing of the stream, then write its results; or print what each step would learn from."""
    from lap_monai.experiments.stream_file import load_stream
    from lap_monai.experiments.stream_output import write_study
    from lap_monai.experiments.stream_study import load_stream_study, names_streams

    several = names_streams(args.stream)
    if several:
        args.study = args.stream
    streams = [load_stream(path) for path in (load_stream_study(args.stream).streams if several else [args.stream])]
    if args.dry_run:
        if several and args.json is not None:
            raise UserError("--json takes the counts of one stream; name a stream file.")
        return max(_plan(args, stream) for stream in streams)
    if args.time:
        raise UserError("--time goes with --dry-run; the runner itself says how long is left.")
    if args.json is not None:
        raise UserError("--json goes with --dry-run; results are in results.json of --out.")
    if args.out is None:
        raise UserError("--out is missing; name the run folder, or add --dry-run to plan only.")
    if not several:
        return _run(args, streams[0], args.out)
    statuses = [_run(args, stream, args.out / stream.name) for stream in streams]
    for path in write_study(args.out, [args.out / stream.name for stream in streams]):
        say(f"wrote {path}")
    return max(statuses)


def _plan(args: argparse.Namespace, stream: Stream) -> int:
    from lap_monai.data import open_stream
    from lap_monai.experiments.stream_dry_run import stream_dry_run
    from lap_monai.files import write_json

    plan = open_stream(stream, args.data, progress=sys.stderr.isatty())
    print("\n".join(stream_dry_run(plan)))
    if args.time:
        from lap_monai.experiments.stream_estimate import stream_estimate

        study = _study(args)
        seeds = args.seeds or study.seeds
        for line in stream_estimate(plan, study, study.choose(args.methods), seeds, args.jobs):
            say(line)
    if args.json is not None:
        print(f"Everything in numbers: {write_json(args.json, plan.to_json())}")
    return 0


def _run(args: argparse.Namespace, stream: Stream, out: Path) -> int:
    from lap_monai.experiments.run_lock import RunLock
    from lap_monai.experiments.runner import run_cells
    from lap_monai.experiments.step_state import refuse_foreign_steps, refuse_running, step_done
    from lap_monai.experiments.stream_cells import build_stream_cells
    from lap_monai.experiments.stream_files import open_stream_files
    from lap_monai.experiments.stream_output import write_stream

    study = _study(args)
    methods = study.choose(args.methods)
    if args.until is not None and args.until >= len(stream.groups):
        raise UserError(f"--until {args.until}: stream {stream.name!r} has the steps 0 to {len(stream.groups) - 1}.")
    run_dir = out.resolve()
    with RunLock(out), sigterm_ends():
        files = open_stream_files(run_dir, stream, args.data, args.resume, progress=sys.stderr.isatty())
        cells = build_stream_cells(study, files, methods, args.seeds or study.seeds)
        for cell in cells:
            refuse_foreign_steps(cell, "run")
        refuse_running(cells, "run")
        asked = cells if args.until is None else [cell.until(args.until) for cell in cells]
        missing = [cell for cell in asked if not all(step_done(step) for step in cell.steps)]
        say(f"{stream.name}: {len(asked)} runs through it, {len(asked) - len(missing)} done, {len(missing)} to go on")
        with tracking_of(study, out, args.tracking, "stream") as tracking:
            outcomes = run_cells(missing, _starter(args.jobs, tracking), args.jobs, say=say)
            failed = [name for name, outcome in outcomes.items() if outcome.status == "failed"]
            written = write_stream(run_dir, stream, study, files, cells)
            if tracking is not None:
                tracking.end("FAILED" if failed else "FINISHED", written)
    for path in written:
        say(f"wrote {path}")
    if failed:
        reason = outcomes[failed[0]].reason
        print(f"error: {len(failed)} runs failed, first {failed[0]}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _study(args: argparse.Namespace) -> StreamStudy:
    from lap_monai.experiments.stream_study import load_stream_study

    if args.study == STUDY and not STUDY.is_file():
        raise UserError(f"No {str(STUDY)!r} here; run this from the checkout's folder, or give --study.")
    return load_stream_study(args.study)


def _starter(jobs: int, tracking: TableTracking | None) -> Start:
    """What starts a run through the stream in a slot."""
    from lap_monai.experiments.cell_process import CellProcess, environment
    from lap_monai.experiments.stream_cells import StreamCell

    extras = None if tracking is None else tracking.extras()
    more = {} if tracking is None else tracking.start()
    busy: set[Path] = set()

    def start(cell: StreamCell, slot: int) -> CellProcess:
        return CellProcess(cell, None, environment(jobs, slot) | more, extras=extras, busy=busy, say=say)

    return start


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names no method; write them as ddcl,mib")
    return names


def _numbers(text: str) -> list[int]:
    numbers = [_number(part.strip()) for part in text.split(",")]
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} names a seed twice")
    return numbers


def _number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 0")
    return int(text)
