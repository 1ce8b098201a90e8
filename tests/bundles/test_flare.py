"""Two clinics that train one network through NVIDIA FLARE's simulator, with the config files of docs/scale.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lap_monai.data import write_phantom
from lap_monai.experiments import merge_configs

pytest.importorskip("nvflare", reason="pip install 'lap_monai[federated]'")
pytest.importorskip("monai_nvflare", reason="pip install 'lap_monai[federated]'")


def app(folder: Path, bundle: Path, kind: str, config: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write one site's app: FLARE's config, and a copy of the bundle with the site's own settings."""
    (folder / "config").mkdir(parents=True)
    (folder / "config" / f"config_fed_{kind}.json").write_text(json.dumps(config))
    copy = folder / bundle.name
    shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("models", "eval", "logging.conf"))
    files = [copy / "configs" / f"{name}.json" for name in ("train", "phantom")]
    (copy / "configs" / "train.json").write_text(json.dumps(merge_configs(files, settings)))


@pytest.mark.slow
def test_two_clinics_and_a_server(bundle: Path, tiny: dict[str, Any], tmp_path: Path, repository: Path) -> None:
    page = (repository / "docs" / "scale.md").read_text(encoding="utf-8")
    client, server = (json.loads(text) for text in re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    job = tmp_path / "job"
    for number in (1, 2):
        data = write_phantom(tmp_path / f"phantom{number}", videos=4, frames=4, size=(96, 64), seed=number)
        own = {"dataset_dir": str(data), "cache_dir": str(tmp_path / f"cache{number}")}
        app(job / f"clinic{number}", bundle, "client", client, tiny | own)
    app(job / "server", bundle, "server", server, tiny)
    deployed = {"server": ["server"], "clinic1": ["site-1"], "clinic2": ["site-2"]}
    (job / "meta.json").write_text(json.dumps({"name": "two_clinics", "min_clients": 2, "deploy_map": deployed}))
    done = subprocess.run(
        [sys.executable, "-m", "nvflare.cli", "simulator", "job", "-w", "workspace", "-n", "2", "-t", "1"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    for number in (0, 1):
        for site in ("site-1", "site-2"):
            assert f"Contribution from {site} ACCEPTED by the aggregator at round {number}" in done.stdout
    (shared,) = (tmp_path / "workspace").rglob("FL_global_model.pt")
    weights = torch.load(shared, weights_only=True)["model"]
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in weights.values())
