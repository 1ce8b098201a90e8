"""A training that has broken down ends, and leaves what was good."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from lap_monai.checkpoints import Stateful, write_checkpoint
from lap_monai.checks import UserError
from lap_monai.handlers.loss_terms import iteration_output
from lap_monai.keys import LOSS


class StopOnNonFinite:
    """Stop when the loss is NaN or infinite, before it reaches the weights, and save the average of the good ones.

    List it before `EmaWeights`.

    Args:
        path: file to write, `model.pt` by convention.
        objects: name → object; `{"model": ema.network}`.
        identity: names a reader compares.
    """

    def __init__(
        self, path: str | Path, objects: Mapping[str, Stateful], identity: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self.objects, self.identity = Path(path), objects, identity

    def attach(self, engine: Engine) -> None:
        """Look at every loss of the trainer `engine`."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Return if the loss is finite.

        Raises:
            UserError: naming epoch, iteration and the saved file otherwise.
        """
        loss = torch.as_tensor(iteration_output(engine)[LOSS]).detach()
        if bool(torch.isfinite(loss).all()):
            return
        # Whichever rank sees it: the average is the same on all, and the others are about to be ended.
        write_checkpoint(self.path, self.objects, self.identity)
        raise UserError(
            f"The loss is {float(loss.float().mean())} in iteration {engine.state.iteration}, epoch "
            f"{engine.state.epoch}; {str(self.path)!r} holds the average of the weights before it. Look for damaged "
            "frames, or start anew with a lower learning_rate."
        )
