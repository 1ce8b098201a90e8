"""What MONAI Label (0.8, `BundleInferTask` and `BasicInferTask`) does with a bundle's folder, step by step, without it.

It reads `configs/inference.json` and `metadata.json` only, takes items by the names below, drops `SaveImaged` and runs
the rest on one image. MONAI Label itself pins packages that do not go with ours (NumPy 1), so this is its contract.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, LoadImaged, SaveImaged
from PIL import Image

from lap_monai.files import read_json, write_json
from lap_monai.inference import Bundle, Predictor


@pytest.fixture
def app_model(bundle: Path, trained: Path, tiny_inference: dict[str, Any], tmp_path: Path) -> Path:
    """The bundle in the folder of a MONAI Label app, with the weights and sizes of a tiny training."""
    folder = tmp_path / "apps" / "monaibundle" / "model" / bundle.name
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("models", "eval"))
    (folder / "models").mkdir()
    shutil.copy(trained / "models" / "model.pt", folder / "models" / "model.pt")
    config = read_json(folder / "configs" / "inference.json")
    config["network_def"]["features"] = tiny_inference["network_def#features"]
    config |= {key: tiny_inference[key] for key in ("frame_size", "window")}
    write_json(folder / "configs" / "inference.json", config)
    return folder


def test_the_app_shows_the_classes_by_name_and_a_plane(app_model: Path) -> None:
    formats = read_json(app_model / "configs" / "metadata.json")["network_data_format"]
    (image_key, image), (pred_key, pred) = (next(iter(formats[kind].items())) for kind in ("inputs", "outputs"))
    assert (image_key, pred_key) == ("image", "pred")
    assert len(image["spatial_shape"]) == 2
    labels = {name.lower(): int(index) for index, name in pred["channel_def"].items()}
    assert sorted(labels.values()) == list(range(8))
    assert labels["gallbladder"] == 7


def test_the_apps_steps_give_the_labels_of_the_bundles_own_inference(app_model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 101, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "frame.png")

    parser = ConfigParser()
    parser.read_config(str(app_model / "configs" / "inference.json"))
    parser.config.update({"bundle_root": str(app_model), "device": "cpu"})
    network = parser.get_parsed_content("network_def", instantiate=True)
    checkpoint = torch.load(app_model / "models" / "model.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(checkpoint.get("model", checkpoint), strict=True)

    before = parser.get_parsed_content("preprocessing", instantiate=True).transforms
    after = parser.get_parsed_content("postprocessing", instantiate=True).transforms
    assert isinstance(before[0], LoadImaged)  # it may hand over a tensor in its place
    after = [transform for transform in after if not isinstance(transform, SaveImaged)]
    data = Compose(before)({"image": str(tmp_path / "frame.png")})
    with torch.no_grad():
        logits = parser.get_parsed_content("inferer", instantiate=True)(data["image"][None], network.eval())
    data["pred"] = logits[0]
    labels = Compose(after)(data)["pred"]

    (expected,) = Predictor(Bundle.open(app_model), "window", "torch", "cpu")([pixels])
    np.testing.assert_array_equal(np.asarray(labels)[0].T, expected.labels)  # MONAI's axes are (W, H)
