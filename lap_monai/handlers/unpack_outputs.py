"""Make the named tuple of a multi-task network look like the logits a stock engine expects."""

from __future__ import annotations

from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from lap_monai.handlers.loss_terms import SUPERVISED, iteration_output, record_term
from lap_monai.keys import LOSS, PRED


class UnpackOutputs:
    """Put the logits of a multi-task output under `pred` and its other fields on `engine.state`.

    A named tuple's first field becomes `engine.state.output["pred"]`, every other field becomes
    `engine.state.<field>`: there, because MONAI would decollate a batch of features as if it were predictions. List it
    before any `LossInjector`.
    """

    def attach(self, engine: Engine) -> None:
        """Act between the forward pass and the loss, and start the record of loss terms after it."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._unpack)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._start_record)

    @staticmethod
    def _unpack(engine: Engine) -> None:
        output = iteration_output(engine)
        prediction = output[PRED]
        if not hasattr(prediction, "_fields"):  # a plain network: nothing to unpack
            return
        first, *others = prediction._fields
        output[PRED] = getattr(prediction, first)
        for field in others:
            setattr(engine.state, field, getattr(prediction, field))

    @staticmethod
    def _start_record(engine: Engine) -> None:
        record_term(engine, SUPERVISED, iteration_output(engine)[LOSS])
