from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointSaver, StatsHandler

from lap_monai.handlers.on_exception import on_exception


def failing(error: BaseException, at: Events = Events.ITERATION_COMPLETED) -> Engine:
    """An engine that dies of `error` in its second iteration, or at another event."""
    engine = Engine(lambda engine, batch: batch)

    def fail() -> None:
        if engine.state.iteration == 2 or at is not Events.ITERATION_COMPLETED:
            raise error

    engine.add_event_handler(at, fail)
    return engine


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt(), SystemExit(143)])
@pytest.mark.parametrize("at", [Events.STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED, Events.COMPLETED])
def test_every_callback_hears_of_it_once_and_the_error_gets_out(error: BaseException, at: Events) -> None:
    engine, heard = failing(error, at), []
    on_exception(engine, lambda engine, error: heard.append(("first", error)))
    on_exception(engine, lambda engine, error: heard.append(("second", error)))
    with pytest.raises(type(error)):
        engine.run([1, 2, 3])
    assert heard == [("first", error), ("second", error)]


@pytest.mark.parametrize("attach_first", [True, False])
def test_handlers_that_raise_or_save_still_get_their_turn(attach_first: bool, tmp_path: Path) -> None:
    """MONAI's CheckpointSaver saves on an exception; it must, whether it is attached before us or after."""
    engine, heard = failing(ValueError("boom")), []
    saver = CheckpointSaver(str(tmp_path), {"net": torch.nn.Linear(1, 1)}, save_final=True, final_filename="final.pt")
    steps: list[Callable] = [
        lambda: on_exception(engine, lambda engine, error: heard.append(error)),
        lambda: saver.attach(engine),
    ]
    for step in steps if attach_first else reversed(steps):
        step()
    StatsHandler(output_transform=lambda output: 0.0).attach(engine)
    with pytest.raises(ValueError, match="boom"):
        engine.run([1, 2, 3])
    assert len(heard) == 1
    assert (tmp_path / "final.pt").is_file()


def test_a_failing_callback_does_not_replace_the_error(caplog: pytest.LogCaptureFixture) -> None:
    engine = failing(ValueError("the run's error"))

    def stumble(_engine: Engine, _error: BaseException) -> None:
        raise OSError("disk full")

    on_exception(engine, stumble)
    with pytest.raises(ValueError, match="the run's error"):
        engine.run([1, 2, 3])
    assert "disk full" in caplog.text
