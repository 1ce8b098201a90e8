"""Log a quantity of the iteration beside its loss terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor

from lap_monai.handlers.engine_values import engine_values
from lap_monai.handlers.loss_terms import record_term


class TermLogger:
    """Record `value(*inputs)` beside the loss terms without adding it to the loss.

    Args:
        name: its name in logs.
        value: callable from the named inputs to a scalar tensor, called without gradients.
        inputs: names as in `LossInjector`.
    """

    def __init__(self, name: str, value: Callable[..., Tensor], inputs: Sequence[str]) -> None:
        self.name = name
        self.value = value
        self.inputs = tuple(inputs)

    def attach(self, engine: Engine) -> None:
        """Record the value in every iteration of `engine`."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        with torch.no_grad():
            value = self.value(*engine_values(engine, self.inputs))
        record_term(engine, self.name, torch.as_tensor(value))
