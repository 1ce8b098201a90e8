from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.networks.nets import BasicUNet
from torch.utils.data import DataLoader

from lap_monai.files import read_json, write_json
from lap_monai.handlers import EmbeddingSampler, ResultsWriter
from lap_monai.metrics import FrameScores, iou, miou


@pytest.fixture
def evaluated(make_evaluator: Callable, tmp_path: Path) -> tuple[Path, FrameScores]:
    """The folder that an evaluation wrote, and the statistics it is made of."""
    writer = ResultsWriter(tmp_path, "endoscapes_7", "dcl", "own/val", budget=0.05, seed=3, config={"epochs": 2})
    evaluator = make_evaluator(val_handlers=[writer])
    evaluator.run()
    return tmp_path, evaluator.state.metric_details["val_mean_iou"]


def test_results_json_has_the_agreed_shape(evaluated: tuple[Path, FrameScores]) -> None:
    folder, frames = evaluated
    results = read_json(folder / "results.json")
    assert {"rows", "config", "versions", "label_space"} <= set(results)
    (row,) = results["rows"]
    identity = {key: row[key] for key in ("method", "budget", "seed", "fold", "split", "label_space")}
    assert identity == {
        "method": "dcl",
        "budget": 0.05,
        "seed": 3,
        "fold": None,
        "split": "own/val",
        "label_space": "endoscapes_7",
    }
    assert row["miou"] == pytest.approx(miou(iou(frames.matrices)))
    assert row["iou"]["Tool"] is None
    assert row["absent"] == ["Tool"]
    assert row["size"] == [8, 8]
    assert row["nsd"]["tolerance_px"] == 1.0
    assert (row["n_frames"], row["n_videos"]) == (8, 4)


def test_no_file_holds_a_nan(evaluated: tuple[Path, FrameScores]) -> None:
    for path in evaluated[0].iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in a file"))
        elif path.suffix == ".csv":
            assert "nan" not in path.read_text().lower()


def test_the_tables_agree_with_the_row(evaluated: tuple[Path, FrameScores]) -> None:
    folder, frames = evaluated
    row = read_json(folder / "results.json")["rows"][0]
    with (folder / "results.csv").open(newline="") as file:
        (flat,) = csv.DictReader(file)
    assert float(flat["miou"]) == row["miou"]
    assert float(flat["iou/Gallbladder"]) == row["iou"]["Gallbladder"]
    assert flat["iou/Tool"] == ""
    with (folder / "frames.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(line["id"], line["video"]) for line in table] == list(zip(frames.ids, frames.videos, strict=True))
    per_image = [float(line["iou/Gallbladder"]) for line in table if line["iou/Gallbladder"]]
    assert sum(per_image) / len(per_image) == pytest.approx(row["per_image"]["iou"]["Gallbladder"])


def test_the_report_shows_frames_curves_and_embeddings(make_evaluator: Callable, tmp_path: Path) -> None:
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=7, features=(4, 4, 4, 4, 4, 4))
    history = write_json(tmp_path / "history.json", [{"epoch": 1, "loss": 2.0, "val_mean_iou": 0.25}])
    sampler = EmbeddingSampler(network)
    writer = ResultsWriter(tmp_path, "endoscapes_7", "dcl", "own/val", history=history, embeddings=sampler, examples=2)
    evaluator = make_evaluator(network, size=32, val_handlers=[sampler, writer])
    for _ in range(2):  # a second run starts its examples and vectors anew
        evaluator.run()
        page = (tmp_path / "report.html").read_text()
        assert page.count('<figure class="frame">') == 6
        assert page.count("encoder scale") >= 3
        assert ">8 frames; the plane" in page
        assert "val_mean_iou" in page


@pytest.mark.parametrize("decollate", [True, False])
def test_the_report_needs_no_history(decollate: bool, make_evaluator: Callable, tmp_path: Path) -> None:
    writer = ResultsWriter(tmp_path, "endoscapes_7", "dcl", "own/val", history=tmp_path / "none.json")
    make_evaluator(val_handlers=[writer], decollate=decollate).run()
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Training</h2>" not in page
    assert "<h2>Frames</h2>" in page


def test_frames_of_one_class_are_counted_but_not_shown(
    make_evaluator: Callable, tmp_path: Path, tiny_frames: list[dict]
) -> None:
    for item in tiny_frames[:6]:
        item["label"].zero_()
    network = torch.nn.Conv2d(3, 7, 1)
    with torch.no_grad():
        network.bias[0] = 100.0  # calls everything background
    writer = ResultsWriter(tmp_path, "endoscapes_7", "dcl", "own/val")
    make_evaluator(network, val_handlers=[writer]).run()
    assert read_json(tmp_path / "results.json")["rows"][0]["n_frames"] == 8
    assert (tmp_path / "report.html").read_text().count('<figure class="frame">') == 2


def test_another_key_metric_is_refused(tmp_path: Path, tiny_frames: list[dict]) -> None:
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(tiny_frames, batch_size=3),
        network=torch.nn.Conv2d(3, 7, 1),
        val_handlers=[ResultsWriter(tmp_path, "endoscapes_7", "dcl", "own/val")],
    )
    with pytest.raises(TypeError, match="to be a SegmentationScores"):
        evaluator.run()
