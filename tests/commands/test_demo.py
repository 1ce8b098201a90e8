from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import FEATURES, CommandLine, assert_same_network, tree

from lap_monai.commands import demo
from lap_monai.files import read_json, write_json


@pytest.fixture
def small_bundle(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle, with a demo of seconds."""
    bundle = Path(shutil.copytree(repository / demo.BUNDLE, tmp_path / "bundle"))
    overlay = bundle / "configs" / "demo.json"
    settings = {"steps_per_epoch": 2, "epochs": 2, "val_interval": 1, "backbone_def#features": FEATURES}
    write_json(overlay, json.loads(overlay.read_text()) | settings | {"masked_per_batch": 2, "label_only_per_batch": 2})
    for name, value in {"VIDEOS": 4, "FRAMES": 4, "SIZE": (96, 64)}.items():
        monkeypatch.setattr(demo, name, value)
    return bundle


@pytest.mark.slow
def test_the_demo_goes_from_nothing_to_a_report_and_on_where_it_stopped(cli: CommandLine, small_bundle: Path) -> None:
    words = ["demo", "--bundle", small_bundle, "--seed", 1]
    one_go, two_goes = cli.folder / "one", cli.folder / "two"
    outcome = cli(*words, "--out", one_go)
    assert outcome.status == 0
    files = tree(one_go)
    assert {"results.json", "results.csv", "report.html", "history.json", "models/model.pt", "run.json"} <= files
    (row,) = read_json(one_go / "results.json")["rows"]
    assert row["seed"] == 1
    assert f"mean IoU {row['miou']:.3f} on unseen phantom patients" in outcome.out
    assert str(one_go / "report.html") in outcome.out
    assert [line for line in outcome.out.splitlines() if line.startswith("[")][-1].startswith("[4/4]")
    assert len([name for name in files if name.startswith("labels/")]) == 4  # the frames of one patient

    assert cli(*words, "--out", two_goes, "--epochs", 1).status == 0
    assert len(read_json(two_goes / "history.json")) == 1
    assert cli(*words, "--out", two_goes).status == 0
    assert len(read_json(two_goes / "history.json")) == 2
    assert_same_network(one_go / "models/checkpoint.pt", two_goes / "models/checkpoint.pt")


def test_without_the_bundle_it_says_where_to_stand(cli: CommandLine) -> None:
    error = cli("demo", "--bundle", cli.folder, "--out", cli.out).error
    assert str(cli.folder) in error
    assert "run this from the checkout's folder" in error
    assert not cli.out.exists()


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_epochs_are_no_demo(cli: CommandLine, small_bundle: Path, epochs: int) -> None:
    assert "give at least 1" in cli("demo", "--bundle", small_bundle, "--out", cli.out, "--epochs", epochs).error
    assert not cli.out.exists()


def test_a_demo_of_another_seed_is_not_continued(cli: CommandLine, small_bundle: Path) -> None:
    write_json(cli.out / "phantom" / "phantom.json", {"seed": 3})
    error = cli("demo", "--bundle", small_bundle, "--out", cli.out).error
    assert "holds the demo of seed 3, not 0; give another --out" in error
