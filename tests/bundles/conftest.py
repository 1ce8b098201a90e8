"""A phantom, a network of a few thousand weights, and runs of the bundle with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism

from lap_monai.data import write_phantom

FEATURES = [4, 8, 8, 16, 16, 4]

MakeWorkflow = Callable[..., ConfigWorkflow]


@pytest.fixture(scope="session")
def bundle(repository: Path) -> Path:
    """The bundle's folder."""
    return repository / "bundles" / "cholecseg8k_contrastive"


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four operations of four frames, 96x64, in CholecSeg8k's layout."""
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", videos=4, frames=4, size=(96, 64))


@pytest.fixture(scope="session")
def tiny(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Overrides that make a training on the phantom a matter of a second."""
    return {
        "dataset_dir": str(phantom),
        "cache_dir": str(tmp_path_factory.mktemp("cache")),
        "backbone_def#features": FEATURES,
        "frame_size": [32, 48],
        "window": [32, 32],
        "masked_per_batch": 2,
        "label_only_per_batch": 4,
        "steps_per_epoch": 2,
        "budget": 0.5,
        "epochs": 2,
        "num_workers": 0,
    }


@pytest.fixture(scope="session")
def tiny_inference(phantom: Path) -> dict[str, Any]:
    """Overrides of `inference.json` for a network trained with `tiny`."""
    return {
        "dataset_dir": str(phantom),
        "network_def#features": FEATURES,
        "frame_size": [32, 48],
        "window": [32, 32],
        "device": "cpu",
    }


@pytest.fixture(autouse=True)
def own_random_state() -> Iterator[None]:
    """Take back the determinism that every run of a bundle turns on."""
    with torch.random.fork_rng(devices=[]):
        yield
    set_determinism(None)


@pytest.fixture(scope="session")
def make_workflow(bundle: Path) -> MakeWorkflow:
    """A function from names of configs, a run folder and overrides to a workflow that is not yet initialised."""

    def make(configs: list[str], root: Path, workflow_type: str = "train", **overrides: Any) -> ConfigWorkflow:
        places = {"bundle_root": str(bundle), "ckpt_dir": str(root / "models"), "output_dir": str(root / "eval")}
        return ConfigWorkflow(
            config_file=[str(bundle / "configs" / f"{name}.json") for name in configs],
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type=workflow_type,
            **places | overrides,
        )

    return make


@pytest.fixture(scope="session")
def run(make_workflow: MakeWorkflow) -> MakeWorkflow:
    """As `make_workflow`, and the workflow has run to its end."""

    def run(*args: Any, **overrides: Any) -> ConfigWorkflow:
        workflow = make_workflow(*args, **overrides)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        return workflow

    return run


@pytest.fixture(scope="session")
def trained(run: MakeWorkflow, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training of two epochs."""
    root = tmp_path_factory.mktemp("trained")
    run(["train", "phantom"], root, **tiny)
    return root
