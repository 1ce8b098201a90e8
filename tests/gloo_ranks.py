"""Trainings on several gloo processes, without the seconds in which each would import everything.

What `torchrun` tells its processes is told here to children of a fork server, which has imported everything once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

BUNDLES = Path(__file__).parents[1] / "bundles"
RANKS = multiprocessing.get_context("forkserver")
RANKS.set_forkserver_preload(["monai.bundle", "monai.engines", "lap_monai.handlers", "lap_monai.replay"])


def rank_of(rank: int, world: int, port: int, files: list[str], overrides: dict[str, Any], log: str) -> None:
    """One process of a training, as `torchrun … -m monai.bundle run` starts it."""
    from monai.bundle import ConfigWorkflow

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), CUDA_VISIBLE_DEVICES="")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with open(log, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            workflow = ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, **overrides)
            workflow.initialize()
            workflow.run()
            workflow.finalize()
        except BaseException as error:
            print(f"{type(error).__name__}: {error} {error.__cause__}", flush=True)
            raise


def run(bundle: str, configs: Sequence[str | Path], root: Path, world: int = 1, **overrides: Any) -> Path:
    """Run a bundle's configs on so many processes, and return the run's folder; a failure shows what they said."""
    root.mkdir(parents=True, exist_ok=True)
    names = [*configs, *(["multi_gpu_train"] if world > 1 else [])]
    files = [str(name if isinstance(name, Path) else BUNDLES / bundle / "configs" / f"{name}.json") for name in names]
    places = {"bundle_root": str(BUNDLES / bundle), "ckpt_dir": str(root / "models"), "output_dir": str(root / "eval")}
    port = free_port()
    logs = [root / f"rank{rank}.log" for rank in range(world)]
    processes = [
        RANKS.Process(target=rank_of, args=(rank, world, port, files, places | overrides, str(logs[rank])))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)  # a busy machine is no failure
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * world, "\n".join(log.read_text()[-3000:] for log in logs)
    return root


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
