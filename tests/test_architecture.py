"""Who may know whom: a layer imports what stands below it, never what stands beside or above it.

    __main__  commands                       the command line
        │
    experiments                              bundles run, tables, streams
        │
    handlers                  packaging      method meets engine: Ignite and MONAI events
        │                         │
    replay  inference ─── data ───┘          what is on disk
        │                   │
        │   reports         │                what people read
        │      │            │
    losses  metrics  networks  transforms    pure parts: no engine, no config, no data set
        │
    keys  checks  files  checkpoints  provenance  flatten  label_space  task_stream     vocabulary

`reports` draws plain results, for runs, tables and inference, and sees the metrics only; `packaging` copies files and
sees the data's splits only. Bundles stand outside: their configs name what a subpackage exports, nothing deeper.
`experiments` is known to the command line alone.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lap_monai"
TESTS = ROOT / "tests"

PURE = {"losses", "metrics", "networks", "transforms"}
MIDDLE = PURE | {"data", "replay", "inference"}

#: Subpackage → the others it may import; all may import the vocabulary, the modules at the top.
MAY_IMPORT: dict[str, set[str]] = {
    "vocabulary": set(),
    **{part: set() for part in PURE},
    "data": PURE,
    "replay": PURE | {"data"},
    "inference": PURE | {"data", "reports"},
    "reports": {"metrics"},
    "packaging": {"data", "inference", "metrics"},
    "handlers": MIDDLE | {"reports"},
    "experiments": MIDDLE | {"reports", "handlers"},
    "commands": MIDDLE | {"reports", "packaging", "handlers", "experiments"},
    "__main__": {"commands"},
}

VOCABULARY = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
SUBPACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted((ROOT / "bundles").glob("*/configs/*.json"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imported(path: Path) -> list[str]:
    """Full names of what a module imports, at its top or within functions."""
    names = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)}: relative imports hide where a module stands"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def layer_of(name: str) -> str | None:
    """The layer of a full name within this package; None for the package itself."""
    parts = name.split(".")
    if len(parts) == 1 or parts[1].startswith("__version"):
        return None
    return "vocabulary" if parts[1] in VOCABULARY else parts[1]


def layer_of_file(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "vocabulary" if first in VOCABULARY or first == "__init__" else first


def test_every_subpackage_has_its_place() -> None:
    assert set(SUBPACKAGES) <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    layer = layer_of_file(path)
    allowed = MAY_IMPORT[layer] | {layer, "vocabulary", None}
    upwards = {name for name in imported(path) if name.split(".")[0] == "lap_monai" and layer_of(name) not in allowed}
    assert not upwards, f"{name_of(path)} belongs to {layer} and must not know {sorted(upwards)}"


def test_only_the_command_line_knows_experiments() -> None:
    knowing = {
        layer_of_file(path) for path in MODULES for name in imported(path) if name.startswith("lap_monai.experiments")
    }
    assert knowing <= {"commands", "experiments"}


@pytest.mark.parametrize("part", sorted(PURE))
def test_pure_parts_know_no_engine(part: str) -> None:
    for path in (PACKAGE / part).rglob("*.py"):
        engines = [name for name in imported(path) if name.startswith(("ignite", "monai.engines", "monai.handlers"))]
        assert not engines, f"{name_of(path)} imports {engines}; wiring belongs into a handler"


def test_nothing_in_the_package_imports_the_tests() -> None:
    ours = {path.stem for path in TESTS.rglob("*.py")}
    assert not [(path, name) for path in MODULES for name in imported(path) if name.split(".")[0] in ours]


# --- what a subpackage shows ---------------------------------------------------------------------------------------


def exported(subpackage: str) -> list[str]:
    return list(getattr(importlib.import_module(f"lap_monai.{subpackage}"), "__all__", []))


@pytest.mark.parametrize("subpackage", SUBPACKAGES)
def test_exports_exist_once_and_are_public(subpackage: str) -> None:
    module = importlib.import_module(f"lap_monai.{subpackage}")
    names = exported(subpackage)
    assert not [name for name in names if name.startswith("_") or not hasattr(module, name)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("subpackage", SUBPACKAGES)
def test_exported_classes_and_functions_explain_themselves(subpackage: str) -> None:
    module = importlib.import_module(f"lap_monai.{subpackage}")
    mute = []
    for name in exported(subpackage):
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            mute += [] if written_doc(thing) else [name]
        if inspect.isclass(thing):
            methods = [key for key, value in vars(thing).items() if inspect.isfunction(value) and key[0] != "_"]
            mute += [f"{name}.{key}" for key in methods if not getattr(thing, key).__doc__]
    assert not mute


def written_doc(thing: Any) -> str | None:
    """The docstring that somebody wrote; a data class or a named tuple makes up one of its own."""
    doc = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    return None if doc is None or doc.startswith(f"{thing.__name__}(") else doc


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)) or not path.read_text().strip()


# --- bundles -------------------------------------------------------------------------------------------------------


def strings(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, dict):
        yield from (text for key, value in config.items() if not key.startswith("_desc") for text in strings(value))
    elif isinstance(config, list):
        yield from (text for value in config for text in strings(value))


def used_names(path: Path) -> set[str]:
    """What a config names of this package: dotted names, and attributes of the modules that `imports` brings."""
    # An overlay uses the aliases that the train.json beside it brings.
    files = {path, path.with_name("train.json")}
    texts = [text for file in files if file.is_file() for text in strings(json.loads(file.read_text()))]
    aliases = dict(re.findall(r"import (lap_monai[\w.]*) as (\w+)", "\n".join(texts)))
    used = set()
    for text in strings(json.loads(path.read_text())):
        used |= set(re.findall(r"(?<!import )\blap_monai(?:\.\w+)+", text))
        if text.startswith("$") and "import " not in text:
            for module, alias in aliases.items():
                used |= {f"{module}.{name}" for name in re.findall(rf"(?<![\w.@#]){alias}\.(\w+)", text)}
    return used


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_bundles_name_only_what_a_subpackage_exports(path: Path) -> None:
    for name in used_names(path):
        _, home, thing, *_ = [*name.split("."), "", ""]
        if home in VOCABULARY:
            assert hasattr(importlib.import_module(f"lap_monai.{home}"), thing), name
        else:
            assert home in SUBPACKAGES, name
            assert home not in ("experiments", "commands"), name
            assert thing in exported(home), f"{name} is no export of lap_monai.{home}"


def test_the_search_for_names_finds_them() -> None:
    """Lest the test above passes for want of names."""
    used = used_names(ROOT / "bundles/cholecseg8k_contrastive/configs/train.json")
    assert {"lap_monai.data.FrameCache.build", "lap_monai.losses.SegmentationLoss"} <= used
    assert {"lap_monai.data.load_split", "lap_monai.label_space.get_label_space"} <= used
    assert "lap_monai.data.split_by_video" in used_names(ROOT / "bundles/cholecseg8k_contrastive/configs/phantom.json")


def test_bundles_hold_no_python() -> None:
    assert not list((ROOT / "bundles").rglob("*.py"))


# --- tests ---------------------------------------------------------------------------------------------------------

TEST_FILES = sorted(TESTS.rglob("test_*.py"))


@pytest.mark.parametrize("path", TEST_FILES, ids=name_of)
def test_every_test_file_tests_something_and_no_test_hides_another(path: Path) -> None:
    body = tree_of(path).body
    classes = [node for node in body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    for holder in (body, *(node.body for node in classes)):
        names = Counter(node.name for node in holder if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
        assert not [name for name, count in names.items() if count > 1], "the later definition hides the earlier one"
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]
    assert any(node.name.startswith("test_") for node in functions)


def test_test_files_have_names_of_their_own() -> None:
    """Without `__init__.py` pytest takes two files of one name for one module."""
    names = Counter(path.name for path in TESTS.rglob("*.py") if path.name != "conftest.py")
    assert not [name for name, count in names.items() if count > 1]
    assert not list(TESTS.rglob("__init__.py"))


def test_nothing_names_a_place_on_our_machines() -> None:
    places = ["/" + "work/", ".lib" + "rary"]
    files = [
        path
        for folder in ("lap_monai", "bundles", "configs", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*")
    ]
    texts = [path for path in files if path.suffix in {".py", ".json", ".yaml", ".md", ".txt", ".html", ".css"}]
    assert not [(name_of(path), place) for path in texts for place in places if place in path.read_text("utf-8")]
