from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from lap_monai.files import read_json
from lap_monai.handlers import TrainingHistory
from lap_monai.handlers.loss_terms import loss_terms


def train(make_trainer: Callable, folder: Path, epochs: int = 2, spy: list | None = None, start: int = 0) -> list[dict]:
    """Train with a history in `folder`, noting every iteration's terms in `spy`, and return the history."""
    trainer: SupervisedTrainer = make_trainer(
        epochs, handlers=lambda validator: [TrainingHistory(folder, validator=validator)]
    )
    if spy is not None:
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: spy.append((engine.state.epoch, loss_terms(engine.state.output)))
        )
    if start:
        state = {"epoch_length": 3, "max_epochs": epochs, "iteration": 3 * start}
        trainer.add_event_handler(Events.STARTED, lambda engine: engine.load_state_dict(state))
    trainer.run()
    return read_json(folder / "history.json")


def test_rows_hold_the_epochs_means_of_every_term(make_trainer: Callable, tmp_path: Path) -> None:
    spy: list = []
    history = train(make_trainer, tmp_path, spy=spy)
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        of_epoch = [terms for epoch, terms in spy if epoch == row["epoch"]]
        for name in ("loss", "seg", "extra"):
            assert row[name] == pytest.approx(np.mean([terms[name] for terms in of_epoch]))
        assert row["loss"] == pytest.approx(row["seg"] + 0.5 * row["extra"])
        assert row["lr"] == 0.1


def test_validation_joins_its_epoch(make_trainer: Callable, tmp_path: Path) -> None:
    for row in train(make_trainer, tmp_path):
        assert 0 <= row["val_mean_iou"] <= 1
        assert "val_iou/Gallbladder" in row
        assert "val_iou/Tool" not in row


def test_a_resumed_run_continues_and_replaces_what_it_repeats(make_trainer: Callable, tmp_path: Path) -> None:
    first = train(make_trainer, tmp_path, epochs=3)
    resumed = train(make_trainer, tmp_path, epochs=4, start=2)
    assert [row["epoch"] for row in resumed] == [1, 2, 3, 4]
    assert resumed[:2] == first[:2]
    assert resumed[2]["loss"] != first[2]["loss"]


def test_a_new_run_starts_a_new_history(make_trainer: Callable, tmp_path: Path) -> None:
    train(make_trainer, tmp_path, epochs=3)
    assert [row["epoch"] for row in train(make_trainer, tmp_path, epochs=1)] == [1]


def test_the_table_says_the_same(make_trainer: Callable, tmp_path: Path) -> None:
    history = train(make_trainer, tmp_path)
    with (tmp_path / "history.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in table] == [row["loss"] for row in history]


def test_a_crash_keeps_the_epochs_before_it(make_trainer: Callable, tmp_path: Path) -> None:
    trainer = make_trainer(5, handlers=lambda validator: [TrainingHistory(tmp_path, validator=validator)])

    def crash(engine: Engine) -> None:
        if engine.state.epoch == 3:
            raise RuntimeError("crash")

    trainer.add_event_handler(Events.ITERATION_COMPLETED, crash)
    with pytest.raises(RuntimeError, match="crash"):
        trainer.run()
    assert [row["epoch"] for row in read_json(tmp_path / "history.json")] == [1, 2]


def test_a_loss_that_is_not_a_number_is_null(make_trainer: Callable, tmp_path: Path) -> None:
    trainer = make_trainer(1, handlers=lambda validator: [TrainingHistory(tmp_path, validator=validator)])
    with torch.no_grad():
        trainer.network.weight.fill_(float("nan"))
    trainer.run()
    assert read_json(tmp_path / "history.json")[0]["loss"] is None


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(float(batch))})
    TrainingHistory(Path(folder) / f"rank{rank}").attach(engine)
    engine.run([1, 2] if rank == 0 else [10, 20, 30])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_means_are_over_all_processes_and_the_first_writes(tmp_path: Path) -> None:
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    assert read_json(tmp_path / "rank0" / "history.json")[0]["loss"] == pytest.approx((1 + 2 + 10 + 20 + 30) / 5)
    assert not (tmp_path / "rank1").exists()
