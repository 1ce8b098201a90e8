"""The one mechanism by which a method adds its losses to a stock engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor

from lap_monai.handlers.engine_values import engine_values
from lap_monai.handlers.loss_terms import iteration_output, record_term
from lap_monai.keys import LOSS


class LossInjector:
    """Add `weight * loss(*inputs)` to the loss of a stock MONAI trainer, and record it under its own name.

    The term is added on `IterationEvents.LOSS_COMPLETED`: before the backward pass and under autocast, so it is
    differentiated, scaled and accumulated like the engine's own loss.

    Args:
        name: the term's name in logs; unique among the engine's handlers.
        loss: pure callable from the named inputs to a scalar tensor.
        inputs: names of what the loss takes, in order: fields that `UnpackOutputs` left (`embeddings`), entries of the
            engine's output (`pred`, `label`) or of the batch (`classes`, `phase`).
        weight: factor of the term; or a callable from the epochs completed so far (a float) to the factor. At a
            factor of 0 the term is neither computed nor recorded.

    Examples:
        In a bundle:

            "dcl": {"_target_": "lap_monai.handlers.LossInjector", "name": "dcl", "loss": "@dcl_loss",
                    "inputs": ["embeddings", "classes", "phase"], "weight": 0.1}
    """

    def __init__(
        self,
        name: str,
        loss: Callable[..., Tensor],
        inputs: Sequence[str],
        weight: float | Callable[[float], float] = 1.0,
    ) -> None:
        if isinstance(inputs, str):
            raise ValueError(f"LossInjector {name!r}: expected inputs as a list of names, got the string {inputs!r}.")
        self.name = name
        self.loss = loss
        self.inputs = tuple(inputs)
        self.weight = weight

    def attach(self, engine: Engine) -> None:
        """Add the term in every iteration of `engine`."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        weight = self._weight_now(engine)
        output = iteration_output(engine)
        if weight == 0:
            return
        term = self.loss(*engine_values(engine, self.inputs))
        record_term(engine, self.name, term)
        output[LOSS] = output[LOSS] + weight * term

    def _weight_now(self, engine: Engine) -> float:
        if not callable(self.weight):
            return self.weight
        state = engine.state
        return float(self.weight((state.iteration - 1) / (state.epoch_length or 1)))
