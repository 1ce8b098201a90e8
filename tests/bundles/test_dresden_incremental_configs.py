"""The files of `dresden_incremental`, read and not run: names that exist, numbers that agree."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lap_monai.experiments import check_targets, merge_configs
from lap_monai.label_space import get_label_space

CONFIGS = Path(__file__).parents[2] / "bundles" / "dresden_incremental" / "configs"
OVERLAYS = sorted(file.stem for file in CONFIGS.glob("*.json") if file.stem not in ("train", "inference", "metadata"))
BEFORE = {name: ["ddcl"] for name in OVERLAYS if name.startswith("ddcl_")}
BEFORE |= {"ddcl_sigmoid": ["sigmoid", "ddcl"], "mlflow_evaluate": ["evaluate"]}
STACKS = [
    ["train"],
    ["inference"],
    *(["train", *BEFORE.get(name, []), name] for name in OVERLAYS),
    ["train", "phantom", "demo", "ddcl", "evaluate"],
    ["train", "endoscapes", "mib", "unlabelled_background", "multi_gpu_train"],
]


def merged(names: list[str]) -> dict[str, Any]:
    return merge_configs([CONFIGS / f"{name}.json" for name in names])


def strings(config: Any) -> Iterator[str]:
    """Every value of a config that MONAI reads, notes left out."""
    if isinstance(config, dict):
        for key, value in config.items():
            if not str(key).startswith("_desc_"):
                yield from strings(value)
    elif isinstance(config, list):
        for value in config:
            yield from strings(value)
    elif isinstance(config, str):
        yield config


@pytest.mark.parametrize("names", STACKS, ids="+".join)
def test_overlays_fit_their_base_and_components_take_their_arguments(names: list[str]) -> None:
    check_targets(merged(names))  # merging has refused unknown keys
    for text in strings(merged(names)):
        if text.startswith("$"):
            ast.parse(re.sub(r"@\w+(?:(?:#|::)\w+)*", "reference", text[1:]))


@pytest.mark.parametrize("names", [names for names in STACKS if names[0] == "train"], ids="+".join)
def test_losses_that_are_injected_are_compared_with_the_head(names: list[str]) -> None:
    config = merged(names)
    compared = " ".join(config["checks"])
    assert "@checks" in config["initialize"]
    assert "@supervised_loss" in compared
    assert ("@kd_loss" in compared) == ("%train#kd" in config["train"]["handlers"])


def test_inference_needs_nothing_but_monai() -> None:
    assert "lap_monai" not in "".join(strings(merged(["inference"])))


def test_inference_builds_what_training_saves_and_sees_frames_as_it_does() -> None:
    train, inference = merged(["train"]), merged(["inference"])
    for key in ("frame_size", "window", "overlap"):
        assert train[key] == inference[key]
    network = {key: value for key, value in inference["network_def"].items() if key != "out_channels"}
    assert network == {key: value for key, value in train["architecture"].items() if key != "_mode_"}
    assert inference["network_def"]["out_channels"] == "@num_classes"


def test_an_ablation_is_the_method_but_for_one_part() -> None:
    whole = merged(["train", "ddcl"])
    for name in OVERLAYS:
        if name.startswith("ddcl_no_"):
            assert merged(["train", "ddcl", name])["method"] == f"ddcl-{name.removeprefix('ddcl_no_')}"
            assert merged(["train", "ddcl", name])["train"]["handlers"] == whole["train"]["handlers"]


def test_metadata_speaks_of_the_classes_in_use() -> None:
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    prediction = metadata["network_data_format"]["outputs"]["pred"]
    assert tuple(prediction["channel_def"].values()) == get_label_space("dsad_11").classes
    assert prediction["num_channels"] == len(prediction["channel_def"]) == merged(["inference"])["num_classes"]


def test_the_methods_page_names_values_that_exist(repository: Path) -> None:
    text = (repository / "docs" / "incremental_methods.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"`(\w+\.json)`", text)):
        assert (CONFIGS / name).is_file(), name
    values = re.findall(r"`([a-z_]+)`", text.partition("| # | decision |")[2].partition("\n\n")[0])
    assert set(values) <= {*merged(["train", "ddcl", "ddcl_expert"])}
