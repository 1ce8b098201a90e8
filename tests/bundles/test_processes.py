"""Training bundles on one, two and three gloo processes: the same curves, scores, weights and synthetic sets.

Plain gradient descent in small steps: AdamW's first steps have one length whatever the gradient, and an error in its
size would not show; large steps multiply what other sums round differently.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo_ranks import BUNDLES, free_port, run

from lap_monai.files import read_json

pytestmark = pytest.mark.slow

#: Larger than the rounding of sums in another order grows within a few small steps, smaller than any mistake.
TOLERANCE = 1e-3


def history(root: Path) -> list[dict[str, Any]]:
    return read_json(root / "eval" / "history.json")


def load(root: Path, name: str = "checkpoint.pt") -> Any:
    return torch.load(root / "models" / name, weights_only=True)


def vector(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([state[key].double().flatten() for key in sorted(state)])


def assert_same_curves(one: Path, several: Path) -> None:
    """Compare every epoch's learning rate, losses and scores."""
    assert len(history(one)) == len(history(several))
    for alone, shared in zip(history(one), history(several), strict=True):
        assert alone.keys() == shared.keys()
        assert alone["lr"] == shared["lr"]
        for key in alone.keys() - {"epoch", "seconds"}:
            # A score counts pixels, of which rounding may turn one or two.
            tolerance = {"rtol": 0, "atol": 5e-3} if key.startswith("val_") else {"rtol": TOLERANCE}
            np.testing.assert_allclose(shared[key], alone[key], **tolerance, err_msg=key)


@pytest.fixture(scope="module")
def settings(tiny: dict[str, Any]) -> dict[str, Any]:
    """The tiny training with batches that three processes can share, and whose rate halves after every epoch."""
    return tiny | {
        "masked_per_batch": 6,
        "label_only_per_batch": 6,
        "optimizer#_target_": "torch.optim.SGD",
        "learning_rate": 0.0004,
        "lr_scheduler#patience": 0,
        "lr_scheduler#threshold": 1.0,
        "epochs": 4,
    }


#: Overlay: stop at the second epoch whose score is no better than that before by 1, that is in epoch 3 of 4; every rank
#: then writes down its learning rate and weights.
EARLY_STOP = {
    "imports": ["$import monai.handlers", "$import pathlib"],
    "run": [
        "$monai.handlers.EarlyStopHandler(2, lambda engine: engine.state.metrics['val_mean_iou'], @train#trainer,"
        " min_delta=1.0).attach(@validate#evaluator)",
        "$@train#trainer.run()",
        "$pathlib.Path(@output_dir, 'rank' + os.environ['RANK'] + '.txt').write_text(str("
        "(@optimizer.param_groups[0]['lr'], [p.double().sum().item() for p in @network_def.parameters()])))",
    ],
}


@pytest.fixture(scope="module")
def early_stop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overlay") / "early_stop.json"
    path.write_text(json.dumps({("+imports" if key == "imports" else key): value for key, value in EARLY_STOP.items()}))
    return path


def test_three_processes_segment_contrast_remember_score_and_stop_as_one(
    settings: dict[str, Any], early_stop: Path, tmp_path: Path
) -> None:
    """Four validation frames on three ranks: uneven shares. Two ranks: test_cholecseg8k_contrastive_tools.py."""
    configs = ["train", "phantom", "memory", "gradient_cache", early_stop]
    one, three = (
        run("cholecseg8k_contrastive", configs, tmp_path / str(world), world, portion=2, **settings) for world in (1, 3)
    )
    assert [row["lr"] for row in history(one)] == [0.0004, 0.0002, 0.0001]  # stopped
    assert_same_curves(one, three)
    assert read_json(three / "eval" / "run.json")["processes"] == 3
    torch.testing.assert_close(vector(load(three)["model"]), vector(load(one)["model"]), rtol=0, atol=1e-6)
    reports = {(three / "eval" / f"rank{rank}.txt").read_text() for rank in range(3)}
    assert len(reports) == 1  # learning rate and weights, to the last bit
    memories = [load(root)["memory"]["classes"] for root in (one, three)]
    assert sorted(memories[0].tolist()) == sorted(memories[1].tolist())


@pytest.fixture(scope="module")
def generator(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny training of the generator, and a set of seven images in batches of two."""
    return {
        "dataset_dir": str(phantom),
        "cache_dir": str(tmp_path_factory.mktemp("cache")),
        "channels": [8, 16],
        "attention_levels": [False, True],
        "num_res_blocks": 1,
        "network_def#num_head_channels": 8,
        "frame_size": [16, 24],
        "timesteps": 20,
        "batch_size": 6,
        "steps_per_epoch": 2,
        "epochs": 2,
        "optimizer#_target_": "torch.optim.SGD",
        "learning_rate": 0.01,
        "ema_decay": 0.5,
        "num_workers": 0,
        "count": 7,
        "steps": 3,
        "generate_batch_size": 2,
    }


def test_two_processes_train_a_generator_and_three_draw_a_set_as_one(generator: dict[str, Any], tmp_path: Path) -> None:
    drawing = {"count", "steps", "generate_batch_size"}
    training = {key: value for key, value in generator.items() if key not in drawing}
    one, two = (
        run("dresden_replay_diffusion", ["train", "phantom"], tmp_path / str(world), world, **training)
        for world in (1, 2)
    )
    assert_same_curves(one, two)
    for name, key in (("checkpoint.pt", "model"), ("checkpoint.pt", "ema"), ("model.pt", "model")):
        torch.testing.assert_close(vector(load(two, name)[key]), vector(load(one, name)[key]), rtol=0, atol=1e-6)
    sets = [
        run(
            "dresden_replay_diffusion",
            ["train", "phantom", "generate"],
            tmp_path / f"set{world}",
            world,
            **generator | {"ckpt_dir": str(one / "models"), "synthetic_dir": str(tmp_path / f"set{world}" / "set")},
        )
        / "set"
        for world in (1, 3)
    ]
    first, other = ({path.name: path.read_bytes() for path in folder.rglob("*.*")} for folder in sets)
    assert len(first) == 8  # seven images and the manifest
    assert other == first


#: Overlay: the second rank dies as by `kill -9` when the second epoch of the first launch begins.
DYING_RANK = {
    "+imports": ["$from ignite.engine import Events", "$import signal"],
    "run": [
        "$@train#trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine, rank=@rank:"
        " os.kill(os.getpid(), signal.SIGKILL)"
        " if (engine.state.epoch, rank, os.environ['TORCHELASTIC_RESTART_COUNT']) == (2, 1, '0') else None)",
        "$@train#trainer.run()",
    ],
}


#: One thread, no GPU, and a store of its own for every start of the ranks.
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def launch(root: Path, options: list[str], **overrides: Any) -> subprocess.CompletedProcess[str]:
    """Run a training whose second rank dies, on two processes of `torchrun`."""
    (root.parent / "dying.json").write_text(json.dumps(DYING_RANK))
    configs = BUNDLES / "cholecseg8k_contrastive" / "configs"
    files = [configs / f"{name}.json" for name in ("train", "phantom", "multi_gpu_train")]
    names = [str(file) for file in (*files, root.parent / "dying.json")]
    places = {"bundle_root": configs.parent, "ckpt_dir": root / "models", "output_dir": root / "eval"}
    words = [f"--config_file={names}", "--logging_file=False"]
    words += [f"--{key}={value}" for key, value in (overrides | places).items()]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", *options]
    return subprocess.run(
        [*launcher, "-m", "monai.bundle", "run", *words],
        cwd=root.parent,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )


def assert_same_training(one: Path, other: Path) -> None:
    """Fail if networks or losses differ in a bit."""
    for key in ("model", "heads"):
        assert torch.equal(vector(load(one)[key]), vector(load(other)[key]))
    assert [row["loss"] for row in history(one)] == [row["loss"] for row in history(other)]


@pytest.fixture(scope="module")
def to_die(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"epochs": 2, "resume": "auto", "optimizer#_target_": "torch.optim.AdamW"}


@pytest.fixture(scope="module")
def undisturbed(to_die: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run("cholecseg8k_contrastive", ["train", "phantom"], tmp_path_factory.mktemp("undisturbed"), 2, **to_die)


def test_a_killed_rank_ends_the_training_cleanly_and_it_resumes_where_it_was(
    to_die: dict[str, Any], undisturbed: Path, tmp_path: Path
) -> None:
    """The launcher itself: no rank waits for the dead one, and what they leave goes on to the bit."""
    broken = tmp_path / "broken"
    done = launch(broken, [f"--master_port={free_port()}"], **to_die)
    assert done.returncode != 0
    assert (broken / "models" / "checkpoint.pt").is_file(), done.stderr[-6000:]
    assert "exitcode: -9" in " ".join(done.stderr.split()), done.stderr[-3000:]
    assert [row["epoch"] for row in history(broken)] == [1]
    run("cholecseg8k_contrastive", ["train", "phantom"], broken, 2, **to_die)
    assert_same_training(broken, undisturbed)


def test_torchrun_starts_the_ranks_again_and_they_go_on(
    to_die: dict[str, Any], undisturbed: Path, tmp_path: Path
) -> None:
    """With the environment of docs/scale.md: in a shared store they read addresses of the dead."""
    meeting = ["--nnodes=1:1", "--max-restarts=1", "--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{free_port()}"]
    done = launch(tmp_path / "restarted", meeting, **to_die)
    assert done.returncode == 0, done.stderr[-6000:]
    record = read_json(tmp_path / "restarted" / "eval" / "run.json")
    assert record["status"] == "completed"
    (earlier,) = record["earlier"]
    assert earlier["status"] in ("failed", "unfinished")  # rank 0 saw the other's end, or was ended before it did
    assert_same_training(tmp_path / "restarted", undisturbed)


def test_batches_that_the_processes_cannot_share_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="masked_per_batch=5 does not divide by 2 processes; give a multiple"):
        run("cholecseg8k_contrastive", ["train", "phantom"], tmp_path, 2, **settings | {"masked_per_batch": 5})
