"""MONAI's own tools, given the bundle: checks, exports, loading, federated learning, the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, load, onnx_export, verify_net_in_out
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.networks.nets import BasicUNet

MakeWorkflow = Callable[..., ConfigWorkflow]


@pytest.fixture
def copied_bundle(bundle: Path, trained: Path, tmp_path: Path) -> Path:
    """The bundle in a folder of its own, with the weights of a training, and without what sets up logging."""
    copy = tmp_path / "zoo" / bundle.name
    shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("models", "eval", "logging.conf"))
    (copy / "models").mkdir()
    shutil.copy(trained / "models" / "model.pt", copy / "models" / "model.pt")
    return copy


@pytest.fixture(scope="session")
def network(trained: Path, tiny: dict[str, Any]) -> BasicUNet:
    """The trained network as any user of MONAI would make it."""
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=8, features=tiny["backbone_def#features"])
    network.load_state_dict(torch.load(trained / "models" / "model.pt", weights_only=True)["model"])
    return network.eval()


@pytest.fixture
def export_arguments(bundle: Path, trained: Path, tiny: dict[str, Any]) -> dict[str, Any]:
    return {
        "net_id": "network_def",
        "ckpt_file": str(trained / "models" / "model.pt"),
        "meta_file": str(bundle / "configs" / "metadata.json"),
        "config_file": str(bundle / "configs" / "inference.json"),
        "key_in_ckpt": "model",
        "network_def#features": tiny["backbone_def#features"],
    }


SHAPES = [(1, 3, 64, 64), (3, 3, 32, 96)]


def test_the_network_takes_and_gives_what_the_metadata_says(bundle: Path) -> None:
    configs = bundle / "configs"
    verify_net_in_out(  # the full network, at the defaults that the model zoo's checks use
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        device="cpu",
    )


def test_a_wrong_number_of_channels_would_be_found(bundle: Path) -> None:
    configs = bundle / "configs"
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(configs / "metadata.json"),
            config_file=str(configs / "inference.json"),
            device="cpu",
            num_classes=7,
        )


def test_the_exported_torchscript_equals_the_network(
    export_arguments: dict[str, Any], network: BasicUNet, tmp_path: Path
) -> None:
    ckpt_export(filepath=str(tmp_path / "model.ts"), **export_arguments)
    scripted = torch.jit.load(tmp_path / "model.ts")
    for shape in SHAPES:
        image = torch.rand(shape)
        with torch.no_grad():
            torch.testing.assert_close(scripted(image), network(image))


def test_the_exported_onnx_equals_the_network_at_any_batch_and_frame_size(
    export_arguments: dict[str, Any], network: BasicUNet, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    axes = {0: "N", 2: "H", 3: "W"}
    kwargs = {
        "dynamo": False,  # the older exporter takes a tenth of the time
        "input_names": ["image"],
        "output_names": ["pred"],
        "dynamic_axes": {"image": axes, "pred": axes},
    }
    onnx_export(filepath=str(tmp_path / "model.onnx"), use_trace=True, converter_kwargs=kwargs, **export_arguments)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [entry.name for entry in session.get_inputs()] == ["image"]
    assert session.get_inputs()[0].shape == ["N", 3, "H", "W"]
    for shape in SHAPES:
        image = torch.rand(shape)
        (prediction,) = session.run(["pred"], {"image": image.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(prediction, network(image).numpy(), atol=1e-4)


def test_monai_loads_the_network_from_the_bundles_folder(
    copied_bundle: Path, network: BasicUNet, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied_bundle)
    loaded = load(
        copied_bundle.name,
        bundle_dir="..",
        workflow_type="inference",
        key_in_ckpt="model",
        net_override={"features": tiny["backbone_def#features"]},
        device="cpu",
    )
    assert type(loaded) is BasicUNet
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_monai_loads_the_training_network_from_anywhere(
    copied_bundle: Path, network: BasicUNet, tiny: dict[str, Any]
) -> None:
    loaded = load(
        copied_bundle.name,
        bundle_dir=copied_bundle.parent,
        key_in_ckpt="model",
        net_override={
            "backbone": {"_target_": "BasicUNet", "spatial_dims": 2, "out_channels": 8, "in_channels": 3}
            | {"features": tiny["backbone_def#features"]}
        },
        copy_model_args={"dst_prefix": "backbone."},
        device="cpu",
    )
    torch.testing.assert_close(loaded.backbone.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_a_round_of_federated_learning(copied_bundle: Path, tiny: dict[str, Any]) -> None:
    configs = [f"configs/{name}.json" for name in ("train", "phantom", "evaluate")]
    client = MonaiAlgo(
        bundle_root=copied_bundle.name,
        local_epochs=1,
        send_weight_diff=False,
        config_train_filename=configs[:2],
        config_evaluate_filename=configs,
        train_kwargs=dict(tiny),
        eval_kwargs=dict(tiny),
    )
    client.initialize(extra={ExtraItems.APP_ROOT: str(copied_bundle.parent), ExtraItems.CLIENT_NAME: "clinic"})
    sent = {key: value.clone() for key, value in client.get_weights().weights.items()}
    client.train(ExchangeObject(weights=sent), extra={})
    answer = client.get_weights()
    assert answer.weights.keys() == sent.keys()
    assert any(not torch.equal(answer.weights[key], sent[key]) for key in sent)
    assert answer.statistics["num_executed_iterations"] == tiny["steps_per_epoch"]
    best = client.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
    # After one epoch the best network is the last one; it is the plain network, without the training's heads.
    torch.testing.assert_close(best, {key: answer.weights[f"backbone.{key}"] for key in best}, rtol=0, atol=0)
    metrics = client.evaluate(ExchangeObject(weights=answer.weights), extra={}).metrics
    assert 0 <= metrics["val_mean_iou"] <= 1
    assert {path.name for path in (copied_bundle / "eval").iterdir()} >= {"results.json", "run.json", "report.html"}
    client.finalize()
