from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet

from lap_monai.__main__ import main
from lap_monai.commands import package
from lap_monai.handlers import write_checkpoint

NAME = "cholecseg8k_contrastive"


@pytest.fixture
def bundle(repository: Path) -> Path:
    return repository / "bundles" / NAME


@pytest.fixture
def small_bundle(bundle: Path, tmp_path: Path) -> Path:
    """The bundle with a network of a few weights, and those weights in models/model.pt."""
    copy = tmp_path / NAME
    shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("models", "eval"))
    config = json.loads((copy / "configs" / "inference.json").read_text(encoding="utf-8"))
    config["network_def"]["features"] = features = [2, 2, 2, 2, 2, 2]
    (copy / "configs" / "inference.json").write_text(json.dumps(config, indent=4), encoding="utf-8")
    torch.manual_seed(0)
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=8, features=features)
    write_checkpoint(copy / "models" / "model.pt", {"model": network})
    return copy


def test_it_prints_size_sum_and_the_next_command(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "a folder" / "bundle.zip"
    assert main(["package", str(bundle), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert hashlib.sha256(out.read_bytes()).hexdigest() in printed
    assert f"{out.stat().st_size / 1e6:.2f} MB" in printed
    assert "weights: none" in printed
    words = shlex.split(re.search(r"^next: (.*)$", printed, re.MULTILINE)[1])
    assert words[:2] == ["unzip", str(out)]
    assert words[words.index("cd") + 1] == NAME
    with zipfile.ZipFile(out) as archive:
        assert f"{NAME}/{words[words.index('--config_file') + 1]}" in archive.namelist()


def test_weights_in_the_bundle_are_packed_and_inference_is_next(
    small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["package", str(small_bundle), "--out", str(tmp_path / "bundle.zip")]) == 0
    printed = capsys.readouterr().out
    assert "weights: models/model.pt, 0.0 MB\n" in printed
    assert "configs/inference.json" in printed


def test_weights_over_the_zoos_limit_are_announced(
    small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "ZOO_LIMIT", 1000)
    assert main(["package", str(small_bundle), "--out", str(tmp_path / "bundle.zip")]) == 0
    printed = capsys.readouterr().out
    assert "over the model zoo's 25 MB" in printed
    assert hashlib.sha256((small_bundle / "models" / "model.pt").read_bytes()).hexdigest() in printed


def test_an_error_is_one_line_and_exit_status_1(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "bundle.zip"
    assert main(["package", str(bundle), "--out", str(out)]) == 0
    assert main(["package", str(bundle), "--out", str(out)]) == 1
    assert main(["package", str(bundle.parent), "--out", str(out), "--force"]) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 2
    assert "--force" in errors[0]
    assert "lacks LICENSE" in errors[1]
