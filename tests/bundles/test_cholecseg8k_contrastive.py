"""The bundle, run in this process on a phantom with a tiny network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.inferers import sliding_window_inference
from monai.networks.nets import BasicUNet
from nested_states import differences
from PIL import Image

from lap_monai.data import read_layout
from lap_monai.experiments import find_user_error
from lap_monai.files import read_json
from lap_monai.label_space import get_label_space

MakeWorkflow = Callable[..., ConfigWorkflow]

CLASSES = get_label_space("cholecseg8k_zhang8").classes


def tiny_network(weights: Path, features: list[int]) -> BasicUNet:
    """The plain network with the weights of a `model.pt`."""
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=8, features=features).eval()
    network.load_state_dict(torch.load(weights, weights_only=True)["model"])
    return network


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def history(root: Path) -> list[dict[str, Any]]:
    """The epochs of a run without the time they took."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_json(root / "eval" / "history.json")]


def test_training_leaves_a_plain_network_a_resumable_state_and_a_record(trained: Path, tiny: dict[str, Any]) -> None:
    left = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    records = {"eval/run.json", "eval/history.json", "eval/history.csv", "eval/budget.json"}
    assert left == {"models/model.pt", "models/checkpoint.pt", "models/previous_checkpoint.pt", *records}
    tiny_network(trained / "models" / "model.pt", tiny["backbone_def#features"])  # strict
    assert set(load(trained / "models" / "model.pt")) == {"model", "identity"}
    rows = history(trained)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"loss", "seg", "dcl", "cls", "without_positive", "lr", "val_mean_iou"} <= set(rows[0])
    assert read_json(trained / "eval" / "run.json")["status"] == "completed"
    budget = read_json(trained / "eval" / "budget.json")
    assert len(budget["ids"]) == budget["total"] * tiny["budget"]


def test_the_total_loss_is_the_weighted_sum_of_its_terms(trained: Path) -> None:
    for row in history(trained):
        assert row["loss"] == pytest.approx(row["seg"] + 0.1 * row["dcl"] + 0.03 / 3 * row["cls"], rel=1e-5)


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    run: MakeWorkflow, trained: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    resumed, whole = tmp_path / "resumed", tmp_path / "whole"
    shutil.copytree(trained, resumed)
    run(["train", "phantom"], resumed, **tiny | {"epochs": 3, "resume": True})
    run(["train", "phantom"], whole, **tiny | {"epochs": 3})
    for name in ("checkpoint.pt", "model.pt"):
        assert differences(load(resumed / "models" / name), load(whole / "models" / name)) == []
    assert history(resumed) == history(whole)
    assert len(history(whole)) == 3
    assert differences(load(resumed / "models" / "checkpoint.pt"), load(trained / "models" / "checkpoint.pt"))


def test_evaluation_writes_results_of_the_test_patient(
    run: MakeWorkflow, trained: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(trained / "models", tmp_path / "models")
    run(["train", "phantom", "evaluate"], tmp_path, **tiny)
    left = {path.name for path in (tmp_path / "eval").iterdir()}
    assert left >= {"results.json", "results.csv", "frames.csv", "report.html"}
    results = read_json(tmp_path / "eval" / "results.json")
    assert {"rows", "config", "versions", "label_space"} <= set(results)
    assert results["label_space"] == "cholecseg8k_zhang8"
    (row,) = results["rows"]
    expected = {"method": "dcl+cls", "budget": 0.5, "seed": 0, "fold": None}
    assert {key: row[key] for key in expected} == expected
    assert row["split"].endswith("/test")
    assert row["nsd"]["tolerance_px"] == 2
    assert tuple(row["iou"]) == tuple(row["dice"]) == CLASSES
    present = [score for score in row["iou"].values() if score is not None]
    assert all(0 <= score <= 1 for score in present)
    assert row["miou"] == pytest.approx(np.mean(present))
    for name, iou in row["iou"].items():
        assert row["dice"][name] == (None if iou is None else pytest.approx(2 * iou / (1 + iou)))


def test_evaluation_refuses_weights_of_another_label_space(
    run: MakeWorkflow, trained: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(trained / "models", tmp_path / "models")
    with pytest.raises(RuntimeError) as error:
        run(["train", "phantom", "evaluate"], tmp_path, **tiny | {"label_space": "cholecseg8k_endovit8"})
    assert "set label_space to 'cholecseg8k_zhang8'" in str(find_user_error(error.value))


def test_inference_writes_one_label_map_per_frame_in_the_frames_own_size(
    run: MakeWorkflow, trained: Path, tiny_inference: dict[str, Any], phantom: Path, tmp_path: Path
) -> None:
    # The word "mask" in a folder's name must not hide its frames.
    frames = tmp_path / "unmasked"
    shutil.copytree(phantom, frames)
    places = {"ckpt_dir": str(trained / "models"), "dataset_dir": str(frames)}
    run(["inference"], tmp_path, "infer", **tiny_inference | places)
    network = tiny_network(trained / "models" / "model.pt", tiny_inference["network_def#features"])
    rows = read_layout(frames, "cholecseg8k")
    written = sorted((tmp_path / "eval").rglob("*.png"))
    assert len(written) == len(rows) == 16
    for row in rows:
        frame = Path(row["image"])
        label_map = tmp_path / "eval" / frame.relative_to(frames).with_name(f"{frame.stem}_seg.png")
        ids = np.asarray(Image.open(label_map))
        np.testing.assert_array_equal(ids, expected_label_map(network, frame))


def expected_label_map(network: torch.nn.Module, frame: Path) -> np.ndarray:
    """The reference: halved by averaging 2x2 pixels, sliding window, class of the greatest logit, doubled."""
    pixels = torch.from_numpy(np.asarray(Image.open(frame).convert("RGB")).copy()).permute(2, 0, 1).float() / 255
    image = torch.nn.functional.avg_pool2d(pixels[None], 2)
    with torch.no_grad():
        logits = sliding_window_inference(image, (32, 32), 4, network, overlap=0.25, padding_mode="reflect")
    return logits[0].argmax(0).numpy().astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)


def test_inference_without_frames_fails_and_says_where_it_looked(
    make_workflow: MakeWorkflow, trained: Path, tiny_inference: dict[str, Any], tmp_path: Path
) -> None:
    places = {"ckpt_dir": str(trained / "models"), "dataset_dir": str(tmp_path)}
    workflow = make_workflow(["inference"], tmp_path, "infer", **tiny_inference | places)
    workflow.initialize()
    with pytest.raises(RuntimeError) as error:
        workflow.run()
    assert str(tmp_path) in str(error.value.__cause__)


@pytest.mark.parametrize(
    "configs",
    [
        ["train", "phantom"],
        ["train", "phantom", "evaluate"],
        ["train", "phantom", "supervised"],
        ["train", "phantom", "demo", "evaluate"],
    ],
    ids="+".join,
)
def test_training_and_evaluation_have_every_property_that_monai_asks_for(
    make_workflow: MakeWorkflow, tiny: dict[str, Any], tmp_path: Path, configs: list[str]
) -> None:
    workflow = make_workflow(configs, tmp_path, **tiny)
    workflow.initialize()
    assert workflow.check_properties() == []
    assert [row["label"] for row in workflow.train_dataset_data]
    assert workflow.train_preprocessing is workflow.train_dataset.transform


def test_inference_has_every_property_that_monai_asks_for(
    make_workflow: MakeWorkflow, trained: Path, tiny_inference: dict[str, Any], tmp_path: Path
) -> None:
    workflow = make_workflow(["inference"], tmp_path, "infer", ckpt_dir=str(trained / "models"), **tiny_inference)
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize(
    ("overlay", "terms"),
    [("dcl", {"seg", "dcl"}), ("cls", {"seg", "cls"}), ("supervised", {"seg"})],
)
def test_an_ablation_trains_with_the_terms_it_names(
    run: MakeWorkflow, tiny: dict[str, Any], tmp_path: Path, overlay: str, terms: set[str]
) -> None:
    kept = {key: value for key, value in tiny.items() if key != "label_only_per_batch" or overlay != "supervised"}
    run(["train", "phantom", overlay], tmp_path, **kept | {"epochs": 1})
    assert {"seg", "dcl", "cls"} & set(history(tmp_path)[0]) == terms
