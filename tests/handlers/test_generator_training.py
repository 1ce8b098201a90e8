"""What the training of a generator hangs on a stock engine: averaged weights, a stop at NaN, seeded iterations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import DiffusionPrepareBatch, VPredictionPrepareBatch
from monai.networks.schedulers import DDPMScheduler
from torch.utils.data import DataLoader

from lap_monai.checks import UserError
from lap_monai.handlers import EmaWeights, IterationSeed, PrepareNoise, PrepareVelocity, StopOnNonFinite


def trainer_of(network: torch.nn.Module, handlers: list, steps: int = 6, broken_at: int | None = None):
    """A stock trainer over `steps` random batches, whose loss is NaN in one iteration."""
    generator = torch.Generator().manual_seed(0)
    batches = [{"image": torch.randn(4, generator=generator), "label": torch.ones(2)} for _ in range(steps)]

    def loss(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        value = (prediction - label).square().mean()
        return value * float("nan") if trainer.state.iteration == broken_at else value

    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(batches, batch_size=None),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=loss,
        train_handlers=handlers,
        decollate=False,
    )
    return trainer


def network_of() -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(4, 2)


def test_the_average_is_the_sum_that_its_definition_gives() -> None:
    network = network_of()
    ema, seen = EmaWeights(network, decay=0.5), [network.weight.detach().clone()]
    trainer = trainer_of(network, [ema])
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(network.weight.detach().clone()))
    trainer.run()
    expected = seen[0]
    for n, weight in enumerate(seen[:-1], start=1):  # the last step's weights have not given a loss yet
        share = min(0.5, (1 + n) / (10 + n))
        expected = share * expected + (1 - share) * weight
    torch.testing.assert_close(ema.network.weight, expected)
    assert not torch.equal(ema.network.weight, network.weight)
    assert not ema.network.training
    assert not ema.network.weight.requires_grad


def test_an_average_that_is_stored_goes_on_as_if_it_had_not_been() -> None:
    networks = network_of(), network_of()
    first, second = (EmaWeights(network) for network in networks)
    trainer_of(networks[0], [first]).run()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.network.weight, first.network.weight)
    for ema in (first, second):
        ema.trained = networks[0]
        ema(Engine(lambda *_: None))
    assert torch.equal(second.network.weight, first.network.weight)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_an_impossible_decay_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay from 0 to below 1"):
        EmaWeights(network_of(), decay)


@pytest.mark.parametrize("broken_at", [1, 4])
def test_a_broken_loss_reaches_neither_weights_nor_average(tmp_path: Path, broken_at: int) -> None:
    network, healthy = network_of(), network_of()
    ema, expected = EmaWeights(network), EmaWeights(healthy)
    stop = StopOnNonFinite(tmp_path / "models" / "model.pt", {"model": ema.network}, {"frame_size": [8, 8]})
    with pytest.raises(UserError, match=f"The loss is nan in iteration {broken_at}, epoch 1; .*model.pt") as error:
        trainer_of(network, [stop, ema], broken_at=broken_at).run()
    assert "\n" not in str(error.value)
    if broken_at > 1:
        trainer_of(healthy, [expected], steps=broken_at - 1).run()
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert saved["identity"] == {"frame_size": [8, 8]}
    assert torch.equal(saved["model"]["weight"], expected.network.weight)
    assert torch.equal(network.weight, healthy.weight)


def test_a_sound_training_is_left_alone(tmp_path: Path) -> None:
    network, other = network_of(), network_of()
    trainer_of(network, [StopOnNonFinite(tmp_path / "model.pt", {"model": network})]).run()
    trainer_of(other, []).run()
    assert torch.equal(network.weight, other.weight)
    assert not (tmp_path / "model.pt").exists()


def drawn(seed: int, iterations: int, already: int = 0, disturbance: int = 0) -> list[float]:
    """What the iterations of an engine draw."""
    values: list[float] = []
    engine = Engine(lambda *_: values.append(float(torch.randn(()))))
    IterationSeed(seed).attach(engine)

    if already:
        engine.load_state_dict({"iteration": already, "epoch_length": 2, "max_epochs": iterations // 2})
    with torch.random.fork_rng(devices=[]):
        torch.randn(disturbance)
        engine.run([0, 1], max_epochs=iterations // 2)
    return values


def test_an_iteration_draws_the_same_whatever_came_before_it() -> None:
    whole = drawn(seed=3, iterations=6)
    assert drawn(seed=3, iterations=6, already=4, disturbance=17) == whole[4:]
    assert len({*whole, *drawn(seed=4, iterations=6)}) == 12


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("velocity", [True, False])
def test_ranks_draw_their_rows_of_what_one_process_draws(
    monkeypatch: pytest.MonkeyPatch, ranks: int, velocity: bool
) -> None:
    scheduler = DDPMScheduler(num_train_timesteps=50)
    prepare = PrepareVelocity(scheduler, 50) if velocity else PrepareNoise(50)
    stock = VPredictionPrepareBatch(scheduler, 50) if velocity else DiffusionPrepareBatch(50)
    images = torch.rand(6, 3, 8, 8)

    def prepared(by: DiffusionPrepareBatch, rows: torch.Tensor) -> list[torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            given, target, _, options = by({"image": rows}, "cpu")
        return [given, target, options["noise"], options["timesteps"]]

    whole = prepared(prepare, images)
    assert all(map(torch.equal, whole, prepared(stock, images)))
    monkeypatch.setattr("lap_monai.handlers.prepare_noise.idist.get_world_size", lambda: ranks)
    parts = []
    for rank, rows in enumerate(images.chunk(ranks)):
        monkeypatch.setattr("lap_monai.handlers.prepare_noise.idist.get_rank", lambda rank=rank: rank)
        parts.append(prepared(prepare, rows))
    assert all(torch.equal(torch.cat(tensors), all_rows) for *tensors, all_rows in zip(*parts, whole, strict=True))
