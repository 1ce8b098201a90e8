"""A generator's training ends when it begins to repeat its training frames."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from lap_monai.files import read_json, write_json
from lap_monai.replay import MemorisationAudit

logger = logging.getLogger(__name__)

FILE_NAME = "memorisation.json"


class MemorisationStop:
    """Every few epochs draw images, audit them, and stop the training when too many are memorised.

    The audits are written to `memorisation.json` in the run folder, a row each: `epoch`, `images`, `flagged`, `share`,
    and `nearest`, the smallest distance in aligned pixels. A resumed run continues the file. List it after
    `LastCheckpoint`, so that the epoch it stops at is still on disk.

    Drawn on every rank, since all of them must stop; each draws the same images, written by rank 0.

    Args:
        output_dir: the run folder.
        draw: seeds → images `(N, H, W, 3)` uint8 of the generator as it is now, by its averaged weights for choice.
        audit: against which they are held; without an encoder, which costs less and suffices for copies.
        images: N, how many are drawn; the same seeds each time, so that the shares of two epochs can be compared.
        limit: largest share of flagged images that is borne.
        interval: epochs between two audits; the last epoch is always audited.
    """

    def __init__(
        self,
        output_dir: str | Path,
        draw: Callable[[list[int]], NDArray[np.uint8]],
        audit: MemorisationAudit,
        images: int = 32,
        limit: float = 0.1,
        interval: int = 10,
    ) -> None:
        if images < 1 or interval < 1 or not 0 <= limit <= 1:
            raise ValueError(
                "MemorisationStop: expected images and interval of at least 1 and a limit from 0 to 1, got "
                f"{images}, {interval} and {limit}."
            )
        self.path = Path(output_dir) / FILE_NAME
        self.draw, self.audit = draw, audit
        self.images, self.limit, self.interval = images, limit, interval

    def attach(self, engine: Engine) -> None:
        """Audit after epochs of the trainer `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if epoch % self.interval and epoch != engine.state.max_epochs:
            return
        found = self.audit(self.draw(list(range(self.images))))
        row = {
            "epoch": epoch,
            "images": self.images,
            "flagged": int(found.flagged.sum()),
            "share": found.share,
            "nearest": float(found.pixel.distance.min()),
        }
        self._write(row)
        if found.share > self.limit:
            logger.warning(
                "Epoch %d: %.0f %% of the generator's images are memorised training frames (limit: %.0f %%); the "
                "training stops here. Train for less, or with more frames.",
                epoch,
                100 * found.share,
                100 * self.limit,
            )
            engine.terminate()

    def _write(self, row: dict[str, Any]) -> None:
        if idist.get_rank() == 0:
            earlier = [other for other in self._read() if other["epoch"] < row["epoch"]]
            write_json(self.path, [*earlier, row])

    def _read(self) -> list[dict[str, Any]]:
        try:
            return read_json(self.path)
        except (OSError, ValueError):
            return []
