from __future__ import annotations

import torch
from ignite.engine import Engine

from lap_monai.data import MixedBatchSampler
from lap_monai.handlers import EpochSeed


def batches_seen(epochs: int, start: int = 0) -> list[list]:
    """What a trainer draws in each epoch after `start`."""
    sampler = MixedBatchSampler(range(4), range(4, 10), masked_per_batch=2, label_only_per_batch=3, seed=7)
    seen: list[list] = []
    engine = Engine(lambda engine, batch: seen[engine.state.epoch - start - 1].append(batch))
    EpochSeed(sampler).attach(engine)
    engine.load_state_dict({"epoch": start, "max_epochs": epochs, "epoch_length": len(sampler)})
    seen += [[] for _ in range(epochs - start)]
    engine.run(sampler)
    return seen


def test_a_resumed_run_draws_what_the_uninterrupted_one_would_have() -> None:
    whole = batches_seen(4)
    assert batches_seen(4, start=2) == whole[2:]


def test_every_epoch_has_an_order_of_its_own() -> None:
    first, second, *_ = batches_seen(3)
    assert first != second


def test_the_sampler_hears_the_number_of_each_epoch() -> None:
    class Listener:
        def __init__(self) -> None:
            self.epochs: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    listener, engine = Listener(), Engine(lambda engine, batch: None)
    EpochSeed(listener).attach(engine)
    engine.run([0], max_epochs=3)
    assert listener.epochs == [1, 2, 3]


def test_with_a_seed_losses_draw_alike_in_a_resumed_run_and_otherwise_in_every_epoch() -> None:
    def draws(epochs: int, start: int = 0, seed: int | None = 3) -> list[int]:
        torch.manual_seed(start)
        sampler = MixedBatchSampler(range(4), (), masked_per_batch=2, label_only_per_batch=0)
        drawn: list[int] = []
        engine = Engine(lambda engine, batch: drawn.append(int(torch.randint(10**9, ()))))
        EpochSeed(sampler, seed).attach(engine)
        engine.load_state_dict({"epoch": start, "max_epochs": epochs, "epoch_length": len(sampler)})
        engine.run(sampler)
        return drawn

    whole = draws(3)
    assert len(set(whole)) == len(whole) == 6
    assert draws(3, start=1) == whole[2:]
    assert draws(3, seed=4) != whole
    assert draws(3, start=1, seed=None) != draws(3, seed=None)[2:]
