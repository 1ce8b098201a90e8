"""What is known of a step from its folder: never run, interrupted, failed, done."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lap_monai.checks import UserError
from lap_monai.experiments.cells import Cell
from lap_monai.experiments.children import may_run
from lap_monai.experiments.step import EVALUATE, Step, Work, mattering
from lap_monai.experiments.study import Study
from lap_monai.files import read_json, write_json
from lap_monai.flatten import flatten

#: File of a cell's folder with its scores.
RESULTS_FILE = "results.json"

#: Seconds that the process of a killed runner gets to end.
_PATIENCE = 20.0


def read_state(step: Step) -> dict[str, Any]:
    """Return the step's state, empty if it never began. Its `status` is running, done or failed."""
    try:
        return read_json(step.state_file)
    except (OSError, ValueError):
        return {}


def write_state(step: Step, status: str, **more: Any) -> None:
    """Record the step's state, together with what its outcome depends on."""
    write_json(step.state_file, {"status": status, "fingerprint": step.fingerprint, **more})


def step_done(step: Step) -> bool:
    """Whether the step has ended well."""
    return read_state(step).get("status") == "done"


def cell_done(cell: Cell) -> bool:
    """Whether the cell has its results."""
    return all(step_done(step) for step in cell.steps) and cell_row(cell) is not None


def cell_row(cell: Cell) -> dict[str, Any] | None:
    """Return the cell's row of results, None if there is none."""
    try:
        return read_json(cell.folder / RESULTS_FILE)["rows"][0]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def cell_status(cell: Cell) -> tuple[str, str]:
    """Return `"done"`, `"warned"`, `"failed"`, `"interrupted"` or `"missing"`, and the reason where there is one."""
    return work_status(cell, cell_done(cell))


def work_status(cell: Work, done: bool) -> tuple[str, str]:
    """As `cell_status`, of any chain of steps; `done` says whether it has all its results."""
    states = [read_state(step) for step in cell.steps]
    if done:
        warnings = cell_warnings(cell)
        return ("warned", "; ".join(warnings)) if warnings else ("done", "")
    failed = [state for state in states if state.get("status") == "failed"]
    if failed:
        return "failed", str(failed[0].get("reason", ""))
    # A pre-training that cells share may be done without this one having begun.
    begun = any(read_state(step) for step in cell.steps if cell.folder in (step.folder, *step.folder.parents))
    return ("interrupted", "") if begun else ("missing", "")


def cell_warnings(cell: Work) -> list[str]:
    """Return what the cell's processes warned of, each once."""
    found = [warning for step in cell.steps for warning in read_state(step).get("warnings", ())]
    return list(dict.fromkeys(found))


def cell_seconds(cell: Work) -> float:
    """Return how long the cell's processes took, all attempts together; runs shared with others are counted in each."""
    return float(sum(read_state(step).get("seconds", 0) for step in cell.steps))


def refuse_foreign(cells: Sequence[Cell], study: Study) -> None:
    """See that the folders of the cells hold nothing of another config, data set, split or label space.

    Raises:
        UserError: naming the first such cell.
    """
    for cell in cells:
        refuse_foreign_steps(cell)
        _refuse_results(cell, study)


def refuse_foreign_steps(work: Work, what: str = "cell") -> None:
    """See that no step of a chain was run with another config, data set or split; `what` is what people call a chain.

    Raises:
        UserError: naming the first such step's folder.
    """
    for step in work.steps:
        state = read_state(step)
        if state and state.get("fingerprint") != step.fingerprint:
            raise UserError(
                f"{what} {work.name} was run with another config, split or data{_difference(step)}; give another "
                f"--out, or delete {str(step.folder)!r} to run it anew."
            )


def refuse_running(cells: Sequence[Work], what: str = "cell") -> None:
    """See that no process of an earlier runner is still making one of the cells; `what` is what people call them.

    Raises:
        UserError: naming the first such cell.
    """
    for cell in cells:
        for step in cell.steps:
            state = read_state(step)
            if state.get("status") == "running" and not _ended(state["process"]):
                process = state["process"]
                raise UserError(
                    f"{what} {cell.name} still runs as process {process['pid']} on {process['host']}; wait for it or "
                    f"end it (if that host lost it, delete {str(step.state_file)!r})."
                )


def _refuse_results(cell: Cell, study: Study) -> None:
    row = cell_row(cell)
    if row is None:
        return
    expected = {
        "label_space": study.label_space.name,
        "split": f"{study.split(cell.at.split).name}/{study.part}",
    }
    for key, value in expected.items():
        if row.get(key) != value:
            raise UserError(
                f"cell {cell.name} holds results of {key} {row.get(key)!r}, this table is about {value!r}; "
                f"give another --out, or delete {str(cell.folder)!r}."
            )
    if not read_state(cell.steps[-1]) or cell.steps[-1].name != EVALUATE:
        raise UserError(f"cell {cell.name} holds results that no table wrote; delete {str(cell.folder)!r}.")


def _ended(process: Mapping[str, Any]) -> bool:
    """Whether a process is gone; one whose runner was killed just now gets a while to leave in order."""
    deadline = time.monotonic() + _PATIENCE
    while may_run(process):
        if time.monotonic() > deadline or process["host"] != socket.gethostname():
            return False
        time.sleep(0.2)
    return True


def _difference(step: Step) -> str:
    """Which config ids changed since a step was run, in words."""
    try:
        before = flatten(mattering(read_json(step.folder / f"config_{step.configs[-1].stem}.json")))
        after = flatten(mattering(step.merged()))
    except (OSError, ValueError):  # a UserError of the merge is one
        return ""
    changed = [
        f"{key.replace('.', '#')} {before.get(key)!r} → {after.get(key)!r}"[:100]
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]
    return f" ({', '.join(changed[:3])})" if changed else " (the data, the split or an earlier stage)"
