"""Kill commands at random moments, resume them, and compare with runs that nobody disturbed: `make test-faults`.

python tests/faults/kill_and_resume.py --count 50 --out docs/evidence/faults.json
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from kill_tasks import Task, prepare
from killing import Ended, Moment

from lap_monai.files import write_json
from lap_monai.inference import run as prediction_run
from lap_monai.provenance import command_line, git_revision, versions

#: Kills of one run before it may come to its end.
KILLS_PER_RUN = 5


@dataclass(frozen=True)
class Kill:
    """One kill: of which run, when, what it hit."""

    run: int
    moment: Moment
    operation: str


@dataclass
class Report:
    """What became of the runs of one task."""

    task: str
    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    different: list[str] = field(default_factory=list)
    files: int = 0
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """For JSON: counts first, then every kill."""
        return {
            "task": self.task,
            "kills": len(self.kills),
            "runs": self.runs,
            "files_compared_a_run": self.files,
            "different": self.different,
            "seconds": round(self.seconds, 1),
            "victims": dict(Counter(kill.moment.victim for kill in self.kills)),
            "before_a_write": sum(kill.moment.write > 0 for kill in self.kills),
            "at_a_time": sum(kill.moment.write == 0 for kill in self.kills),
            "moments": [asdict(kill) for kill in self.kills],
        }


def run_whole(task: Task, place: Path) -> tuple[Path, Ended]:
    """Run a task that nobody disturbs; return its folder and how it ended.

    Raises:
        AssertionError: if it does not end well.
    """
    folder = place / f"{task.name}_whole"
    ended = task.start(folder)
    assert ended.status == 0, _log(folder)
    return folder, ended


def kill_and_resume(
    task: Task,
    place: Path,
    whole: tuple[Path, Ended],
    count: int,
    seed: int = 0,
    kills_per_run: int = KILLS_PER_RUN,
) -> Report:
    """Kill runs of a task `count` times in all, resume each to its end, and compare what they leave.

    Half of the moments are writes, just before which the process is killed; half are points in time. Both are drawn
    evenly over what an undisturbed run has and this one has not done yet.

    Args:
        task: what to run.
        place: folder for the runs.
        whole: what `run_whole` gave.
        count: kills.
        seed: of the moments; those before a write come again with it.
        kills_per_run: after so many a run may come to its end.

    Raises:
        AssertionError: if a run that was killed does not end well when it is resumed.
    """
    undisturbed = whole[1]
    expected = task.fingerprints(whole[0])
    report = Report(task.name, files=len(expected))
    clock = time.monotonic()
    draw = random.Random(f"{seed} {task.name}")
    while len(report.kills) < count:
        folder = place / f"{task.name}_{report.runs}"
        writes, seconds, ended = 0, 0.0, None
        for _ in range(min(kills_per_run, count - len(report.kills))):
            moment = _moment(draw, task, undisturbed.writes - writes, undisturbed.seconds - seconds)
            ended = task.start(folder, moment)
            if not ended.killed:
                break
            report.kills.append(Kill(report.runs, moment, ended.operation))
            writes, seconds = writes + ended.writes, seconds + ended.seconds
        if ended is None or ended.killed:
            ended = task.start(folder)
        assert ended.status == 0, _log(folder)
        found = task.fingerprints(folder)
        different = {name for name in {**expected, **found} if expected.get(name) != found.get(name)}
        report.different += [f"run {report.runs}: {name}" for name in sorted(different)]
        report.runs += 1
    report.seconds = time.monotonic() - clock
    return report


def _evidence(reports: list[Report], seed: int, git: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "kills": sum(len(report.kills) for report in reports),
        "bit_identical": not any(report.different for report in reports),
        "seed": seed,
        "tasks": [report.plain() for report in reports],
        "versions": versions(),
        "git": git,
        "command": command_line(),
    }


def _moment(draw: random.Random, task: Task, writes_left: int, seconds_left: float) -> Moment:
    victim = draw.choice(task.victims)
    if draw.random() < 0.5:
        return Moment(write=draw.randint(1, max(5, writes_left)), victim=victim)
    return Moment(seconds=draw.uniform(0, max(0.2, seconds_left)), victim=victim)


def _log(folder: Path) -> str:
    lines = folder.with_name(f"{folder.name}.log").read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[-20:])


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=50, help="kills in all, at least (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--tasks", help="of train,table,stream,generate,predict,predict_video (default: all)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="where the report goes")
    args = parser.parse_args()
    git = git_revision()  # now: what this writes may be a file of the tree
    torch.set_num_threads(1)  # sums in one order
    prediction_run.CHECKPOINT_SECONDS = 0.0  # a tiny run would be over before its first checkpoint
    with tempfile.TemporaryDirectory(prefix="faults_") as name:
        place = Path(name)
        tasks = prepare(place, short=False)
        chosen = args.tasks.split(",") if args.tasks else list(tasks)
        each = -(-args.count // len(chosen))
        reports = []
        for task in chosen:
            whole = run_whole(tasks[task], place)
            reports.append(kill_and_resume(tasks[task], place, whole, each, args.seed))
            last = reports[-1].plain()
            print({key: value for key, value in last.items() if key != "moments"}, flush=True)
            write_json(args.out, _evidence(reports, args.seed, git))
    different = [entry for report in reports for entry in report.different]
    print(f"wrote {args.out}: {sum(len(report.kills) for report in reports)} kills, {len(different)} files differ")
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
