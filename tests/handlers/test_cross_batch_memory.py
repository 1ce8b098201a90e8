"""The cross-batch memory on a stock trainer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from lap_monai.handlers import CrossBatchMemory
from lap_monai.losses import contrast_features


@pytest.fixture
def run():
    """Run an engine whose "network" embeds batch k as random vectors, and return what its losses could recall."""

    def run(handler: CrossBatchMemory, batches: list[int]) -> list:
        seen = []

        def step(engine: Engine, number: int) -> dict:
            generator = torch.Generator().manual_seed(number)
            engine.state.embeddings = tuple(
                torch.randn(4, 3, generator=generator, requires_grad=True) for _ in range(2)
            )
            engine.state.batch = {"classes": torch.full((4, 2), float(number)), "phase": torch.full((4,), number)}
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            seen.append(engine.state.memory)
            engine.fire_event(IterationEvents.MODEL_COMPLETED)
            return {}

        engine = Engine(step)
        engine.register_events(*IterationEvents)
        engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "device", torch.device("cpu")))
        handler.attach(engine)
        engine.run(batches, max_epochs=1)
        return [SimpleNamespace(recalled=memory, state=engine.state) for memory in seen]

    return run


def test_losses_see_the_batches_before_and_never_their_own(run):
    seen = [entry.recalled for entry in run(CrossBatchMemory(8), [1, 2, 3, 4])]
    assert seen[0] is None
    assert [memory.phase.tolist() for memory in seen[1:]] == [[1] * 4, [1] * 4 + [2] * 4, [2] * 4 + [3] * 4]


def test_what_is_remembered_is_what_was_contrasted(run):
    handler = CrossBatchMemory(4)
    last = run(handler, [1, 2])[-1]
    expected = contrast_features(last.state.embeddings)
    assert torch.equal(handler.memory.recall().features, expected)
    assert not handler.memory.recall().features.requires_grad


def test_a_resumed_run_recalls_what_the_uninterrupted_one_would(run):
    whole, first, resumed = (CrossBatchMemory(6) for _ in range(3))
    run(whole, [1, 2, 3])
    run(first, [1, 2])
    resumed.load_state_dict(first.state_dict())
    run(resumed, [3])
    for ours, theirs in zip(resumed.memory.recall(), whole.memory.recall(), strict=True):
        assert torch.equal(ours, theirs)
