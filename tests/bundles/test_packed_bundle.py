"""The packed bundle, run by a process that cannot import lap_monai."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from lap_monai.files import read_json
from lap_monai.packaging import pack_bundle

MakeWorkflow = Callable[..., ConfigWorkflow]

#: Blocks the package, proves it, runs the jobs with the function behind `python -m monai.bundle run`, proves it again.
PROGRAM = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lap_monai":
            raise ImportError("lap_monai is blocked")

sys.meta_path.insert(0, Blocker())
for name in ("lap_monai", "lap_monai.data"):
    try:
        __import__(name)
    except ImportError as error:
        assert str(error) == "lap_monai is blocked", error
    else:
        sys.exit(f"{name} could be imported")

from monai.bundle import run
for job in json.load(sys.stdin):
    run(logging_file=False, **job)

from scripts.lap_monai.data import load_split
assert load_split("zhang_1").test == ("video12", "video52")
assert not [name for name in sys.modules if name.partition(".")[0] == "lap_monai"]
print("ran without lap_monai")
"""


@pytest.mark.slow
def test_it_trains_evaluates_and_infers_without_lap_monai_as_the_bundle_does_with_it(
    run: MakeWorkflow,
    bundle: Path,
    tiny: dict[str, Any],
    tiny_inference: dict[str, Any],
    tmp_path: Path,
) -> None:
    pack_bundle(bundle, tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip") as archive:
        archive.extractall(tmp_path / "elsewhere")
    unpacked = tmp_path / "elsewhere" / bundle.name
    labels = unpacked / "labels"
    overrides = tiny | {"epochs": 1}
    jobs = [
        {"config_file": ["configs/train.json", "configs/phantom.json"], **overrides},
        {"config_file": ["configs/train.json", "configs/phantom.json", "configs/evaluate.json"], **overrides},
        {
            "config_file": "configs/inference.json",
            "output_dir": str(labels),
            "workflow_type": "infer",
            **tiny_inference,
        },
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=unpacked,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert done.stdout.rstrip().endswith("ran without lap_monai")

    here = tmp_path / "here"
    run(["train", "phantom"], here, **overrides)
    run(["train", "phantom", "evaluate"], here, **overrides)
    places = {"output_dir": str(here / "labels"), "ckpt_dir": str(here / "models")}
    run(["inference"], here, "infer", **tiny_inference | places)

    weights = [torch.load(root / "models" / "model.pt", weights_only=True)["model"] for root in (here, unpacked)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    histories = [read_json(root / "eval" / "history.json") for root in (here, unpacked)]
    assert [rows[0] | {"seconds": None} for rows in histories] == [histories[0][0] | {"seconds": None}] * 2
    results = [read_json(root / "eval" / "results.json") for root in (here, unpacked)]
    assert results[0]["rows"] == results[1]["rows"]
    assert results[1]["git"] is None  # no revision of a checkout that it does not come from
    assert (unpacked / "eval" / "report.html").stat().st_size > 10_000
    maps = sorted(path.relative_to(labels) for path in labels.rglob("*.png"))
    assert len(maps) == 16
    for name in maps:
        pictures = [np.asarray(Image.open(root / "labels" / name)) for root in (here, unpacked)]
        np.testing.assert_array_equal(*pictures)


def test_its_inference_is_the_same_file(bundle: Path, tmp_path: Path) -> None:
    pack_bundle(bundle, tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip") as archive:
        packed = archive.read(f"{bundle.name}/configs/inference.json")
    assert packed == (bundle / "configs" / "inference.json").read_bytes()


def test_weights_of_a_training_go_with_it_and_of_another_network_do_not(
    bundle: Path, trained: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    copy = tmp_path / bundle.name
    shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("models", "eval"))
    config = json.loads((copy / "configs" / "inference.json").read_text())
    config["network_def"]["features"] = tiny["backbone_def#features"]
    (copy / "configs" / "inference.json").write_text(json.dumps(config, indent=4))
    weights = trained / "models" / "model.pt"
    packed = pack_bundle(copy, tmp_path / "packed.zip", weights)
    with zipfile.ZipFile(packed.path) as archive:
        assert archive.read(f"{bundle.name}/models/model.pt") == weights.read_bytes()
    with pytest.raises(ValueError, match=r"does not fit network_def of inference\.json: size mismatch"):
        pack_bundle(bundle, tmp_path / "other.zip", weights)
    with pytest.raises(ValueError, match=r"give the model\.pt of a run, not its checkpoint\.pt"):
        pack_bundle(copy, tmp_path / "other.zip", trained / "models" / "checkpoint.pt")
    assert not (tmp_path / "other.zip").exists()
