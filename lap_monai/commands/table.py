"""`python -m lap_monai table`: every cell of a table, resumable, and what they say together."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lap_monai.experiments.cells import Cell
    from lap_monai.experiments.runner import Start
    from lap_monai.experiments.study import Study
    from lap_monai.experiments.table import Table
    from lap_monai.experiments.table_tracking import Declared, TableTracking


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "table", type=Path, metavar="TABLE", help="table file, such as configs/tables/phantom_budgets.yaml"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data set folder")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder of the whole table")
    parser.add_argument("--resume", action="store_true", help="go on in a folder that holds this table")
    parser.add_argument(
        "--only", metavar="GLOB", help="cells <row>/<budget>_<subset>_<seed> that match, as 'dcl*/0.05_*'"
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="cells at a time (default: 1)")
    parser.add_argument(
        "--processes",
        type=positive,
        default=1,
        metavar="N",
        help="processes of each training, by torchrun (default: 1)",
    )
    parser.add_argument(
        "--shard", type=_shard, default=(1, 1), metavar="I/N", help="run part I of N; parts may run side by side"
    )
    add_tracking(parser)
    parser.add_argument("--dry-run", action="store_true", help="list cells, frames, patients and time; run nothing")
    parser.epilog = "Exit status: 0 if every cell that was asked for has its results, 1 if not."


def main(args: argparse.Namespace) -> int:
    """Run what is missing of the table, then write its results."""
    from lap_monai.experiments.cells import build_cells, choose
    from lap_monai.experiments.study import open_study
    from lap_monai.experiments.table_file import load_table

    table = load_table(args.table)
    study = open_study(table, args.data)
    cells = build_cells(table, study, args.out.resolve())
    chosen = choose(cells, args.only, args.shard)
    if args.dry_run:
        from lap_monai.experiments.dry_run import dry_run

        for line in dry_run(table, study, chosen, args.data, args.jobs):
            say(line)
        return 0
    return _run(args, table, study, cells, chosen)


def _run(args: argparse.Namespace, table: Table, study: Study, cells: list[Cell], chosen: list[Cell]) -> int:
    from lap_monai.experiments.claim import claim_folder
    from lap_monai.experiments.run_lock import RunLock
    from lap_monai.experiments.runner import run_cells
    from lap_monai.experiments.step_state import cell_done, refuse_foreign, refuse_running
    from lap_monai.experiments.table_output import write_table

    with RunLock(args.out, args.shard), sigterm_ends():
        claim_folder(args.out, table, study, args.resume)
        refuse_foreign(cells, study)
        refuse_running(chosen)
        missing = [cell for cell in chosen if not cell_done(cell)]
        say(f"{table.name}: {len(chosen)} cells, {len(chosen) - len(missing)} done, {len(missing)} to run")
        with tracking_of(table, args.out, args.tracking, "table") as tracking:
            outcomes = run_cells(missing, _starter(args, table, tracking), args.jobs, say=say)
            failed = [name for name, outcome in outcomes.items() if outcome.status == "failed"]
            files = write_table(args.out, table, study, cells, args.data)
            if tracking is not None:
                tracking.end("FAILED" if failed else "FINISHED", files)
    for path in files:
        say(f"wrote {path}")
    if failed:
        print(f"error: {len(failed)} cells failed, first {failed[0]}; their folders hold logs", file=sys.stderr)
    return 1 if failed else 0


def _starter(args: argparse.Namespace, table: Table, tracking: TableTracking | None) -> Start:
    """What starts a cell in a slot."""
    from lap_monai.experiments.cell_process import CellProcess, environment

    extras = {"train": [], "evaluate": []} if tracking is None else tracking.extras()
    if args.processes > 1:
        extras["train"].append(str(table.bundle / "configs" / "multi_gpu_train.json"))
    more = {} if tracking is None else tracking.start()
    busy: set[Path] = set()

    def start(cell: Cell, slot: int) -> CellProcess:
        surroundings = environment(args.jobs, slot, args.processes) | more
        return CellProcess(cell, args.data.resolve(), surroundings, args.processes, extras, busy)

    return start


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """Declare the option that `tracking_of` is given."""
    parser.add_argument(
        "--tracking",
        nargs="?",
        const="",
        metavar="URI",
        help="track with MLflow, a child run a process (default URI: MLFLOW_TRACKING_URI, else RUN/mlruns.db)",
    )


@contextmanager
def tracking_of(declared: Declared, out: Path, uri: str | None, what: str) -> Iterator[TableTracking | None]:
    """The parent run, if one is wanted (`uri` is not None); it ends as killed or failed if the sitting does."""
    from lap_monai.experiments.table_tracking import TableTracking

    tracking = None if uri is None else TableTracking(declared, out, uri, what)
    try:
        yield tracking
    except BaseException as error:
        stopped = not isinstance(error, Exception)
        if stopped:
            print("stopped; --resume goes on where the running processes were", file=sys.stderr)
        if tracking is not None:
            tracking.end("KILLED" if stopped else "FAILED")
        raise


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


@contextmanager
def sigterm_ends() -> Iterator[None]:
    """Let a scheduler's stop end the sitting in order, as Ctrl-C does."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    usual = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    match: Any = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; write I/N with I from 1 to N, such as 2/8")
    return int(match[1]), int(match[2])
