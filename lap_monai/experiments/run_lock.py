"""One runner at a time in a folder, or several that share its cells out."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from lap_monai.checks import UserError
from lap_monai.experiments.children import may_run, process_identity

logger = logging.getLogger(__name__)


class RunLock:
    """A file that says which process runs the cells of a folder.

    Shards of the same division may run side by side, anything else is refused. The lock of a process of this host that
    is gone is taken over; one of another host has to be removed by hand, since nobody here can ask for it.

    Args:
        folder: the table's run folder.
        shard: (i, n): this runner does part i of n.

    Raises:
        UserError: on entering, if another runner is at work.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] = (1, 1)) -> None:
        self.folder, self.shard = folder, shard
        self.path = folder / f"runner.{shard[0]}of{shard[1]}.lock"

    def __enter__(self) -> RunLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take()
        # Every runner makes its own lock before it looks for others, so that of two at least one sees the other.
        for other in sorted(self.folder.glob("runner.*.lock")):
            if other != self.path and not self._side_by_side(other) and (holder := self._holder(other)):
                self.path.unlink(missing_ok=True)
                raise UserError(self._refusal(other, holder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)

    def _take(self) -> None:
        for _ in range(2):
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                if holder := self._holder(self.path):
                    raise UserError(self._refusal(self.path, holder)) from None
                continue  # it was a dead process's, and is gone now
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(process_identity(), file)
            return
        raise UserError(f"{str(self.path)!r} is being taken by another runner at this moment; try again.")

    def _holder(self, path: Path) -> dict[str, Any] | None:
        """Who holds a lock; None if nobody does any more, and then the file is removed."""
        try:
            holder = json.loads(path.read_text(encoding="utf-8"))
            if may_run(holder):
                return holder
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            holder = {}  # cut short by a crash
        logger.warning("The runner that held %s (process %s) is gone; taking over.", path, holder.get("pid", "unknown"))
        path.unlink(missing_ok=True)
        return None

    def _side_by_side(self, other: Path) -> bool:
        return other.name.rpartition("of")[2] == self.path.name.rpartition("of")[2]

    def _refusal(self, path: Path, holder: dict[str, Any]) -> str:
        return (
            f"{str(self.folder)!r} is in use by process {holder['pid']} on {holder['host']}; wait for it or end it"
            f" (if that host lost it, delete {str(path)!r})."
        )
