"""The generator's bundle, run in this process on a phantom with a tiny network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata
from monai.networks.nets import DiffusionModelUNet

from lap_monai.data import write_phantom
from lap_monai.experiments import find_user_error
from lap_monai.files import read_json
from lap_monai.replay import SyntheticSet

NETWORK = {"channels": [8, 16], "attention_levels": [False, True], "num_res_blocks": 1}

Run = Callable[..., ConfigWorkflow]


@pytest.fixture(scope="module")
def generator_bundle(repository: Path) -> Path:
    return repository / "bundles" / "dresden_replay_diffusion"


@pytest.fixture(scope="module")
def tiny_generator(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Overrides that make a training and a set on a phantom a matter of seconds."""
    data = tmp_path_factory.mktemp("data")
    return {
        **NETWORK,
        "dataset_dir": str(write_phantom(data / "phantom", videos=4, frames=4, size=(96, 64))),
        "cache_dir": str(data / "cache"),
        "network_def#num_head_channels": 8,
        "frame_size": [16, 24],
        "timesteps": 20,
        "batch_size": 4,
        "steps_per_epoch": 2,
        "epochs": 2,
        "num_workers": 0,
        "device": "$torch.device('cpu')",
        "count": 5,
        "steps": 3,
        "generate_batch_size": 2,
        "verify_sample": 5,
    }


@pytest.fixture(scope="module")
def start(generator_bundle: Path) -> Run:
    """A function from configs, a run folder and overrides to a workflow that is not yet initialised."""

    def start(configs: list[str], root: Path, **overrides: Any) -> ConfigWorkflow:
        places = {name: str(root / name) for name in ("ckpt_dir", "output_dir", "synthetic_dir")}
        return ConfigWorkflow(
            config_file=[str(generator_bundle / "configs" / f"{name}.json") for name in configs],
            meta_file=str(generator_bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="train",
            bundle_root=str(generator_bundle),
            **places | overrides,
        )

    return start


@pytest.fixture(scope="module")
def carry_out(start: Run) -> Run:
    """As `start`, and the workflow has run to its end."""

    def carry_out(*args: Any, **overrides: Any) -> ConfigWorkflow:
        workflow = start(*args, **overrides)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        return workflow

    return carry_out


@pytest.fixture(scope="module")
def trained_generator(carry_out: Run, tiny_generator: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training of two epochs."""
    root = tmp_path_factory.mktemp("generator")
    carry_out(["train", "phantom"], root, **tiny_generator)
    return root


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_leaves_a_plain_averaged_network_and_a_record(
    trained_generator: Path, tiny_generator: dict[str, Any]
) -> None:
    model = load(trained_generator / "ckpt_dir" / "model.pt")
    network = DiffusionModelUNet(2, 3, 3, norm_num_groups=8, num_head_channels=8, **NETWORK)
    network.load_state_dict(model["model"])
    assert model["identity"]["frame_size"] == tiny_generator["frame_size"]
    checkpoint = load(trained_generator / "ckpt_dir" / "checkpoint.pt")
    assert not same(checkpoint["model"], model["model"])  # the average is another network
    assert all(torch.equal(checkpoint["ema"][f"module.{name}"], value) for name, value in model["model"].items())
    rows = read_json(trained_generator / "output_dir" / "history.json")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert read_json(trained_generator / "output_dir" / "run.json")["status"] == "completed"


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    carry_out: Run, tiny_generator: dict[str, Any], tmp_path: Path
) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    constant = {"lr_scheduler#T_max": 6, **tiny_generator}
    carry_out(["train", "phantom"], stopped, **constant)
    carry_out(["train", "phantom"], stopped, **constant | {"epochs": 3, "resume": True})
    carry_out(["train", "phantom"], whole, **constant | {"epochs": 3})
    for name in ("model.pt", "checkpoint.pt"):
        assert same(load(stopped / "ckpt_dir" / name), load(whole / "ckpt_dir" / name))


@pytest.mark.parametrize("overlay", ["epsilon", "zero_snr", "patched"])
def test_other_targets_and_schedules_train_and_draw(
    carry_out: Run, tiny_generator: dict[str, Any], tmp_path: Path, overlay: str
) -> None:
    configs = ["train", "phantom", overlay]
    carry_out(configs, tmp_path, **tiny_generator | {"epochs": 1})
    carry_out([*configs, "generate"], tmp_path, **tiny_generator)
    synthetic = SyntheticSet.open(tmp_path / "synthetic_dir")
    assert synthetic.generator["prediction_type"] == ("epsilon" if overlay == "epsilon" else "v_prediction")
    assert len(synthetic) == 5


def test_noise_prediction_with_a_schedule_that_ends_in_noise_is_refused(
    carry_out: Run, tiny_generator: dict[str, Any], tmp_path: Path
) -> None:
    """Before the training, not after it."""
    with pytest.raises(RuntimeError) as error:
        carry_out(["train", "phantom", "epsilon", "zero_snr"], tmp_path, **tiny_generator | {"epochs": 1})
    assert "needs prediction_type 'v_prediction'" in str(find_user_error(error.value))
    assert not list(tmp_path.rglob("model.pt"))


@pytest.mark.parametrize("order", [("patched", "multi_gpu_train"), ("multi_gpu_train", "patched")])
def test_patches_and_processes_go_together_in_any_order(generator_bundle: Path, order: tuple[str, str]) -> None:
    merged = ConfigParser()
    merged.read_config([str(generator_bundle / "configs" / f"{name}.json") for name in ("train", "phantom", *order)])
    said = " ".join(merged["initialize"])
    assert "init_process_group" in said
    assert "check_frame_size(@frame_size, len(@channels), @patch)" in said
    assert merged["patch"] == 4


def test_a_set_is_drawn_continued_extended_and_verified(
    carry_out: Run, trained_generator: Path, tiny_generator: dict[str, Any], tmp_path: Path
) -> None:
    configs, places = ["train", "phantom", "generate"], {"ckpt_dir": str(trained_generator / "ckpt_dir")}
    settings = tiny_generator | places
    carry_out(configs, tmp_path / "at_once", **settings)
    carry_out(configs, tmp_path / "in_parts", **settings | {"count": 3})
    carry_out(configs, tmp_path / "in_parts", **settings)  # 3 images are no whole number of batches
    first, second = (tmp_path / name / "synthetic_dir" for name in ("at_once", "in_parts"))
    assert contents(first) == contents(second)
    synthetic = SyntheticSet.open(first)
    assert len(synthetic) == 5
    assert synthetic.sampler == {"name": "dpm_solver", "steps": 3, "threshold": "static", "batch_size": 2}
    assert len({synthetic.read(i).tobytes() for i in range(5)}) == 5
    carry_out(configs, tmp_path / "at_once", **settings | {"verify": True})
    (first / "images/00000/00000002.png").write_bytes((first / "images/00000/00000001.png").read_bytes())
    with pytest.raises(RuntimeError) as error:
        carry_out(configs, tmp_path / "at_once", **settings | {"verify": True})
    assert "00000002.png' is not the image that the manifest names" in str(find_user_error(error.value))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frame_size": [16, 16]}, "was trained with frame_size [16, 24], but this run uses [16, 16]"),
        ({"frame_size": [15, 24]}, "a network of 2 levels on patches of 1 needs multiples of 2: [16, 24]"),
        ({"steps": 21}, "steps=21: give 1 to 20"),
        ({"sampler": "dpm"}, "Unknown sampler 'dpm'"),
        ({"channels": [8, 24]}, "does not fit the configured model"),
        ({"ckpt_dir": "nowhere"}, "No checkpoint at 'nowhere/model.pt'"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_generator_is_told(
    carry_out: Run,
    trained_generator: Path,
    tiny_generator: dict[str, Any],
    tmp_path: Path,
    change: dict[str, Any],
    said: str,
) -> None:
    settings = tiny_generator | {"ckpt_dir": str(trained_generator / "ckpt_dir")} | change
    with pytest.raises(Exception) as error:  # noqa: PT011, MONAI wraps what a config raises
        carry_out(["train", "phantom", "generate"], tmp_path, **settings)
    assert said in str(find_user_error(error.value))
    assert not (tmp_path / "synthetic_dir").exists()


def test_a_set_of_another_generator_is_left_alone(
    carry_out: Run, trained_generator: Path, tiny_generator: dict[str, Any], tmp_path: Path
) -> None:
    configs = ["train", "phantom", "generate"]
    settings = tiny_generator | {"ckpt_dir": str(trained_generator / "ckpt_dir")}
    carry_out(configs, tmp_path, **settings)
    before = contents(tmp_path / "synthetic_dir")
    other = tmp_path / "other"
    shutil.copytree(trained_generator / "ckpt_dir", other)
    model = load(other / "model.pt")
    next(iter(model["model"].values())).add_(1e-3)
    torch.save(model, other / "model.pt")
    with pytest.raises(RuntimeError) as error:
        carry_out(configs, tmp_path, **settings | {"ckpt_dir": str(other), "count": 7})
    assert "was made with generator.sha256" in str(find_user_error(error.value))
    assert contents(tmp_path / "synthetic_dir") == before


def test_a_broken_loss_ends_the_training_and_leaves_the_last_good_average(
    start: Run, tiny_generator: dict[str, Any], tmp_path: Path
) -> None:
    workflow = start(["train", "phantom"], tmp_path, **tiny_generator)
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    ema = workflow.parser.get_parsed_content("train#ema")
    loss, good = trainer.loss_function, {}

    def breaking(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if trainer.state.iteration == 3:
            good.update({name: value.clone() for name, value in ema.network.state_dict().items()})
            return loss(prediction, target) * float("nan")
        return loss(prediction, target)

    trainer.loss_function = breaking
    with pytest.raises(Exception) as error:  # noqa: PT011
        workflow.run()
    told = str(find_user_error(error.value))
    assert "The loss is nan in iteration 3, epoch 2" in told
    assert same(load(tmp_path / "ckpt_dir" / "model.pt")["model"], good)
    assert read_json(tmp_path / "output_dir" / "run.json")["status"] == "failed"


@pytest.mark.parametrize("overlays", [[], ["demo"], ["demo", "generate"]], ids="+".join)
def test_every_property_that_monai_asks_for_is_there(
    start: Run, tiny_generator: dict[str, Any], overlays: list[str], tmp_path: Path
) -> None:
    workflow = start(["train", "phantom", *overlays], tmp_path, **tiny_generator)
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.train_preprocessing is workflow.train_dataset.transform


def test_metadata_fit_the_schema_of_the_model_zoo_and_the_network(generator_bundle: Path, repository: Path) -> None:
    path = generator_bundle / "configs" / "metadata.json"
    schema = repository / "tests" / "resources" / "meta_schema_20240725.json"
    verify_metadata(meta_file=str(path), filepath=str(schema), hash_val="76e1add273836515d0bbb3bc71962474")
    metadata = read_json(path)
    assert metadata["version"] in metadata["changelog"]
    train = read_json(generator_bundle / "configs" / "train.json")
    ports = metadata["network_data_format"]
    assert ports["inputs"]["image"]["num_channels"] == train["network_def"]["in_channels"]
    assert ports["outputs"]["pred"]["num_channels"] == train["network_def"]["out_channels"]
    assert ports["inputs"]["image"]["spatial_shape"] == [f"{2 ** (len(train['channels']) - 1)}*n"] * 2
