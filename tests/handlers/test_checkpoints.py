from __future__ import annotations

import copy
import io
import os
import pickle
import random
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from lap_monai.checks import UserError
from lap_monai.handlers import (
    BestCheckpoint,
    LastCheckpoint,
    ResumeCheckpoint,
    VerifiedCheckpointLoader,
    read_checkpoint,
    write_checkpoint,
)

SPACE = {"label_space": "cholecseg8k_zhang8"}


def network(seed: int = 0, width: int = 3) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.BatchNorm2d(width))


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class Training:
    """A trainer of one weight, whose evaluator gives the scores it is told."""

    def __init__(self, folder: Path, scores: list[float], resume: bool | str = False, interval: int = 1) -> None:
        self.net = network()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.1)
        self.evaluator = Engine(lambda engine, batch: None)
        self.evaluator.add_event_handler(Events.STARTED, self.score, scores)
        self.best = BestCheckpoint(folder / "model.pt", {"model": self.net}, "score", SPACE)
        self.best.attach(self.evaluator)
        self.trainer = Engine(self.step)
        objects = {"model": self.net, "optimizer": self.optimizer, "best": self.best}
        ResumeCheckpoint(folder / "checkpoint.pt", objects, SPACE, resume).attach(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.evaluator.run([0]))
        LastCheckpoint(folder / "checkpoint.pt", objects, SPACE, interval).attach(self.trainer)

    def step(self, _engine: Engine, batch: float) -> None:
        self.optimizer.zero_grad()
        self.net(torch.arange(96.0).mul(batch).sin().reshape(2, 3, 4, 4)).sin().sum().backward()
        self.optimizer.step()

    def score(self, evaluator: Engine, scores: list[float]) -> None:
        evaluator.state.metrics["score"] = scores[self.trainer.state.epoch - 1]

    def run(self, epochs: int) -> Training:
        self.trainer.run([1.0, 2.0], max_epochs=epochs)
        return self


# --- write and read ------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    one, other = network(1), network(2)
    write_checkpoint(tmp_path / "deep" / "a.pt", {"model": one}, SPACE)
    read_checkpoint(tmp_path / "deep" / "a.pt", {"model": other}, SPACE)
    assert same(one, other)
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "a.pt"]


def test_the_file_is_what_monai_and_torch_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.pt", {"model": network(1)}, SPACE)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert set(content) == {"model", "identity"}
    assert content["identity"] == SPACE
    network().load_state_dict(content["model"])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    write_checkpoint(path, {"model": network(1)})
    before = path.read_bytes()

    def full_disk(content: object, file: io.BufferedWriter) -> None:
        file.write(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 128 vs 22")  # torch's words

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(UserError, match=r"Cannot write the checkpoint '.*a\.pt'.*Free space"):
        write_checkpoint(path, {"model": network(2)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class Interrupted(io.FileIO):
    """A file that gets a signal at one of its writes."""

    def __init__(self, path: Path, number: signal.Signals, left: int) -> None:
        super().__init__(path, "w")
        self.number, self.left = number, left

    def write(self, data: Any) -> int:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return super().write(data)


def leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


@pytest.mark.parametrize(
    ("number", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["SIGINT", "SIGTERM"]
)
@pytest.mark.parametrize("write", [1, 2, 3, 5, 8, 13])
def test_a_stop_amid_a_write_stays_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int, number: signal.Signals, stop: type[BaseException]
) -> None:
    write_checkpoint(tmp_path / "model.pt", {"model": network(0)})
    usual = signal.signal(signal.SIGTERM, leave)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", lambda path, _mode: Interrupted(path, number, write))
            with pytest.raises(stop):
                write_checkpoint(tmp_path / "model.pt", {"model": network(1)})
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    kept = network(2)
    read_checkpoint(tmp_path / "model.pt", {"model": kept})
    assert same(kept, network(0))


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No checkpoint at '.*none\.pt'; train first"):
        read_checkpoint(tmp_path / "none.pt", {"model": network()})


def test_another_identity_is_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.pt", {"model": network(1)}, SPACE)
    net = network(2)
    with pytest.raises(UserError, match=r"with label_space 'cholecseg8k_zhang8', but this run uses 'endoscapes_7'"):
        read_checkpoint(tmp_path / "a.pt", {"model": net}, {"label_space": "endoscapes_7"})
    assert same(net, network(2))


def test_a_file_without_identity_is_taken_as_it_is(tmp_path: Path) -> None:
    """Weights from elsewhere, a model zoo for example."""
    torch.save({"model": network(1).state_dict()}, tmp_path / "a.pt")
    net = network(2)
    read_checkpoint(tmp_path / "a.pt", {"model": net}, SPACE)
    assert same(net, network(1))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": {}}, "lacks optimizer"),
        ([1, 2], "lacks everything"),
        (torch.zeros(3), "lacks everything"),
        ({"model": network(width=4).state_dict(), "optimizer": {}}, "does not fit the configured model: size mismatch"),
        ({"model": 3, "optimizer": 4}, "does not fit the configured model"),
        ({"model": network().state_dict(), "optimizer": {}}, "does not fit the configured optimizer"),
        ({"model": network().state_dict(), "optimizer": 4}, "does not fit the configured optimizer"),
    ],
)
def test_content_of_another_kind_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    net = network()
    with pytest.raises(UserError, match=said):
        read_checkpoint(tmp_path / "a.pt", {"model": net, "optimizer": torch.optim.Adam(net.parameters())})


def damages(whole: bytes, count: int) -> list[bytes]:
    """Cut, flipped, overwritten and invented files; none of them as it was."""
    rng = random.Random(0)
    found = [b"", b"\x80", b"PK\x03\x04", whole[:-1], b"text\n", pickle.dumps(3), rng.randbytes(999)]
    for _ in range(count):
        start = rng.randrange(len(whole))
        found.append(whole[:start])
        found.append(whole[:start] + rng.randbytes(40) + whole[start + 40 :])
    return found


def test_no_damage_gets_through_or_out_as_another_error(tmp_path: Path) -> None:
    path, net = tmp_path / "a.pt", network(1)
    write_checkpoint(path, {"model": net}, SPACE)
    whole = path.read_bytes()
    for content in damages(whole, 100):
        path.write_bytes(content)
        loaded = network(2)
        try:
            read_checkpoint(path, {"model": loaded}, SPACE)
        except UserError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert same(loaded, net)  # the damage fell on padding, which holds nothing


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    """PyTorch itself loads such a file without a word."""
    path = tmp_path / "a.pt"
    write_checkpoint(path, {"model": network(1)}, SPACE)
    weight = network(1).state_dict()["0.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weight) + 7] ^= 1
    path.write_bytes(content)
    assert not torch.equal(
        torch.load(path, weights_only=True)["model"]["0.weight"], network(1).state_dict()["0.weight"]
    )
    with pytest.raises(UserError, match="is damaged"):
        read_checkpoint(path, {"model": network()}, SPACE)


class Code:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["pickle", "archive"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, form: str) -> None:
    path, proof = tmp_path / "a.pt", tmp_path / "executed"
    content = {"model": Code(proof)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
        assert zipfile.is_zipfile(path)
    with pytest.raises(UserError, match="is damaged or not a checkpoint"):
        read_checkpoint(path, {"model": network()})
    assert not proof.exists()


# --- best, last, resume --------------------------------------------------------------------------------------------


def test_the_best_network_is_kept_and_not_the_last(tmp_path: Path) -> None:
    best: list[dict] = []
    training = Training(tmp_path, [0.2, 0.5, 0.5, 0.3])
    training.trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=2), lambda: best.append(copy.deepcopy(training.net.state_dict()))
    )
    training.run(4)
    kept = network()
    VerifiedCheckpointLoader(tmp_path / "model.pt", {"model": kept}, SPACE)(training.trainer)
    assert all(torch.equal(best[0][name], value) for name, value in kept.state_dict().items())
    assert training.best.best == 0.5


def test_a_first_network_is_kept_even_if_no_class_could_be_scored(tmp_path: Path) -> None:
    nan = float("nan")
    engine, net = Engine(lambda engine, batch: None), network(1)
    best = BestCheckpoint(tmp_path / "model.pt", {"model": net}, "score")
    engine.state.metrics["score"] = nan
    best(engine)
    assert (tmp_path / "model.pt").is_file()
    engine.state.metrics["score"] = 0.1
    best(engine)
    assert best.best == 0.1


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    scores = [0.2, 0.5, 0.4, 0.45]
    whole = Training(tmp_path / "whole", scores).run(4)
    Training(tmp_path / "parts", scores).run(stop)
    resumed = Training(tmp_path / "parts", scores, resume=True).run(4)
    assert same(whole.net, resumed.net)
    assert resumed.best.best == whole.best.best == 0.5
    models = [torch.load(tmp_path / name / "model.pt", weights_only=True)["model"] for name in ("whole", "parts")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_finished_training_is_not_continued(tmp_path: Path) -> None:
    finished = Training(tmp_path, [0.1, 0.2]).run(2)
    again = Training(tmp_path, [0.1, 0.2], resume=True).run(2)
    assert same(finished.net, again.net)


def test_without_resume_an_old_checkpoint_is_overlooked(tmp_path: Path) -> None:
    first = Training(tmp_path, [0.1, 0.2, 0.3]).run(1)
    assert same(first.net, Training(tmp_path, [0.1, 0.2, 0.3]).run(1).net)


def test_auto_resumes_if_there_is_something(tmp_path: Path) -> None:
    whole = Training(tmp_path / "whole", [0.1, 0.2]).run(2)
    Training(tmp_path / "parts", [0.1, 0.2], resume="auto").run(1)
    assert same(whole.net, Training(tmp_path / "parts", [0.1, 0.2], resume="auto").run(2).net)


@pytest.mark.parametrize("damage", ["cut off", "gone"])
@pytest.mark.parametrize("resume", [True, "auto"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, resume: bool | str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    scores = [0.2, 0.5, 0.4, 0.45]
    whole = Training(tmp_path / "whole", scores).run(4)
    Training(tmp_path / "parts", scores).run(3)
    last = tmp_path / "parts" / "checkpoint.pt"
    if damage == "gone":  # as a kill between two renamings leaves it
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:1000])
    resumed = Training(tmp_path / "parts", scores, resume=resume)
    epochs: list[int] = []
    resumed.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: epochs.append(resumed.trainer.state.epoch))
    resumed.run(4)
    assert epochs == [3, 4]
    assert str(last) in caplog.text
    assert "Going on from the one before it, of epoch 2." in caplog.text
    assert same(whole.net, resumed.net)
    assert resumed.best.best == whole.best.best
    previous = Training(tmp_path / "parts", scores, resume=True)
    last.unlink()
    assert same(previous.run(3).net, Training(tmp_path / "three", scores).run(3).net), "a good one was kept"


def test_the_checkpoint_of_another_training_is_no_previous_one(tmp_path: Path) -> None:
    scores = [0.1] * 4
    Training(tmp_path, scores).run(3)
    Training(tmp_path, scores).run(1)
    assert [path.name for path in tmp_path.glob("*checkpoint.pt")] == ["checkpoint.pt"]
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        Training(tmp_path, scores, resume=True).run(2)


@pytest.mark.parametrize("epoch", [1, 3])
def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path, epoch: int) -> None:
    """A NaN in the midst of an epoch: the files are those of the epoch before, and a resumed training is whole."""
    scores = [0.1, 0.2, 0.3, 0.4]
    broken = Training(tmp_path / "broken", scores)

    def spoil() -> None:
        with torch.no_grad():
            next(broken.net.parameters())[0] = float("nan")

    broken.trainer.add_event_handler(Events.EPOCH_STARTED(once=epoch), spoil)
    with pytest.raises(UserError, match=r"'model' are no longer finite.* or start anew with a lower"):
        broken.run(4)
    files = sorted(path.name for path in (tmp_path / "broken").glob("*.pt"))
    if epoch == 1:
        assert files == []
        return
    assert files == ["checkpoint.pt", "model.pt", "previous_checkpoint.pt"]
    before = Training(tmp_path / "before", scores).run(epoch - 1)
    again = Training(tmp_path / "broken", scores, resume=True).run(epoch - 1)
    assert same(before.net, again.net)


def test_resume_is_true_false_or_auto(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected resume to be true, false or 'auto', got 'yes'"):
        ResumeCheckpoint(tmp_path / "a.pt", {}, resume="yes")


def test_the_last_epoch_is_written_whatever_the_interval(tmp_path: Path) -> None:
    epochs = []
    training = Training(tmp_path, [0.1] * 5, interval=2)
    path = tmp_path / "checkpoint.pt"

    def note() -> None:
        if path.is_file():
            epochs.append(torch.load(path, weights_only=True)["trainer"]["iteration"] // 2)

    training.trainer.add_event_handler(Events.EPOCH_COMPLETED, note)
    training.run(5)
    assert epochs == [2, 2, 4, 5]
