from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from lap_monai.checks import UserError
from lap_monai.experiments import merge_configs

BASE = {
    "epochs": 3,
    "rate": 0.1,
    "flag": False,
    "sizes": [1, 2],
    "nothing": None,
    "folder": "$@root + '/x'",
    "root": ".",
    "net": {"_target_": "BasicUNet", "features": [1, 2, 3]},
    "group": {"part": {"_target_": "Compose", "transforms": "@sizes"}, "list": [{"a": 1}, {"b": 2}]},
}


@pytest.fixture
def files(tmp_path: Path):
    """A function from configs to their files."""

    def write(*configs: Any) -> list[Path]:
        paths = [tmp_path / f"{i}.json" for i in range(len(configs))]
        for path, config in zip(paths, configs, strict=True):
            path.write_text(json.dumps(config))
        return paths

    return write


def test_later_files_win_and_overrides_win_over_all(files) -> None:
    merged = merge_configs(files(BASE, {"epochs": 4, "rate": 0.2}, {"epochs": 5}), {"epochs": 6})
    assert (merged["epochs"], merged["rate"]) == (6, 0.2)
    assert merged["net"] == BASE["net"]


@pytest.mark.parametrize(
    "overlay",
    [
        {"epochs": 7},
        {"net#features": [4, 5]},
        {"net::features": [4, 5]},
        {"net#act": "relu"},
        {"group#list#1#b": 9},
        {"+sizes": [3]},
        {"+net": {"act": "relu"}},
        {"extra": 1, "folder": "@extra"},
        {"group#extra": 1, "folder": "$@group#extra + 1"},
        {"run": ["$1"], "finalize": ["$2"], "initialize": []},
        {"_desc_": "words", "net#_disabled_": True},
    ],
)
def test_the_result_is_what_monai_would_run(files, overlay: dict) -> None:
    paths = files(BASE, overlay)
    assert merge_configs(paths) == ConfigParser.load_config_files([str(path) for path in paths])


def test_the_given_overrides_stay_as_they_are(files) -> None:
    overrides = {"+sizes": [3]}
    merge_configs(files(BASE), overrides)
    assert overrides == {"+sizes": [3]}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("epoch", "Did you mean 'epochs'?"),
        ("ne#features", "Did you mean 'net#features'?"),
        ("group#part#transform#0", "group#part#transform#0"),
        ("group#prt", "Did you mean 'group#part'?"),
        ("group#list#2#b", "group#list#2#b"),
        ("epochs#deeper", "epochs#deeper"),
        ("+size", "Did you mean 'sizes'?"),
        ("zzzz", "Known: epochs, flag"),
    ],
)
@pytest.mark.parametrize("where", ["overlay", "override"])
def test_a_key_without_effect_is_refused(files, key: str, said: str, where: str) -> None:
    paths = files(BASE, {key: 1} if where == "overlay" else {})
    with pytest.raises(UserError) as caught:
        merge_configs(paths, {key: 1} if where == "override" else {})
    assert said in str(caught.value)
    assert (repr(str(paths[1])) if where == "overlay" else "the command line") in str(caught.value)


def test_a_new_key_needs_a_reference_to_all_of_its_name(files) -> None:
    with pytest.raises(UserError, match="sets 'ext'"):
        merge_configs(files(BASE, {"ext": 1, "folder": "@extra", "extra": 2}))


def test_a_macro_refers_to_what_it_copies(files) -> None:
    overlay = {"group#extra": {"_target_": "Compose"}, "+group#list": ["%group#extra"]}
    assert merge_configs(files(BASE, overlay))["group"]["extra"] == {"_target_": "Compose"}
    with pytest.raises(UserError, match="sets 'group#extar'"):
        merge_configs(files(BASE, {"group#extar": {}, "+group#list": ["%group#extra"]}))


def test_a_later_file_may_refer_to_an_earlier_ones_key(files) -> None:
    assert merge_configs(files(BASE, {"extra": 1}, {"folder": "@extra"}))["extra"] == 1


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("epochs", "ten", "to the text 'ten', where the config has a number"),
        ("rate", "fast", "where the config has a number"),
        ("sizes", "all", "where the config has a list"),
        ("net", "unet", "where the config has an object"),
        ("flag", "yes", "write true or false"),
        ("flag", "OFF", "write true or false"),
    ],
)
def test_text_in_place_of_something_else_is_refused(files, key: str, value: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        merge_configs(files(BASE), {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("epochs", "$1 + 1"), ("epochs", "@rate"), ("flag", "auto"), ("nothing", "text"), ("root", "3"), ("sizes", 4)],
)
def test_what_can_stand_for_the_value_is_taken(files, key: str, value: object) -> None:
    assert merge_configs(files(BASE), {key: value})[key] == value


@pytest.mark.parametrize("overlay", [{"+sizes": 3}, {"+epochs": [1]}, {"+net": [1]}])
def test_what_cannot_be_appended_is_refused(files, overlay: dict) -> None:
    with pytest.raises(UserError, match="which does not fit the config"):
        merge_configs(files(BASE, overlay))


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", "null"])
def test_a_file_that_is_no_config_is_named(files, tmp_path: Path, content: str) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    with pytest.raises(UserError, match=r"The config '.*bad\.json' "):
        merge_configs([*files(BASE), bad])


def test_a_yaml_overlay_works_as_well(files, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("epochs: 9\nnet#features: [7]\n")
    merged = merge_configs([*files(BASE), overlay])
    assert (merged["epochs"], merged["net"]["features"]) == (9, [7])


def test_no_file_and_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No config file given"):
        merge_configs([])
    with pytest.raises(UserError, match=r"No config file '.*none\.json'"):
        merge_configs([tmp_path / "none.json"])


@pytest.mark.parametrize("overlays", ["phantom demo evaluate", "multi_gpu_train", "small endoscapes", "dcl cls"])
def test_the_overlays_of_the_bundle_are_taken(repository: Path, overlays: str) -> None:
    configs = repository / "bundles" / "cholecseg8k_contrastive" / "configs"
    merge_configs([configs / f"{name}.json" for name in ["train", *overlays.split()]])
