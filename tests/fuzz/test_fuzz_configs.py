"""What people write or send: tables, streams, studies, bundle configs, overrides, archives."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import CONFIGS, REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from mutations import ODD, damaged, mutated

from lap_monai.checks import UserError
from lap_monai.config_safety import unsafe_parts, unusual_code
from lap_monai.experiments.config_merge import merge_configs
from lap_monai.experiments.config_targets import check_targets
from lap_monai.experiments.stream_file import load_stream
from lap_monai.experiments.stream_study import load_stream_study
from lap_monai.experiments.table_file import load_table
from lap_monai.inference import Bundle

Survives = Callable[..., Any]

TABLE = yaml.safe_load((REPOSITORY / "configs" / "tables" / "phantom_budgets.yaml").read_text(encoding="utf-8")) | {
    "bundle": str(CONFIGS.parent)
}
STREAM = yaml.safe_load((REPOSITORY / "configs" / "streams" / "phantom_demo.yaml").read_text(encoding="utf-8"))
STUDY_FILE = REPOSITORY / "configs" / "studies" / "methods.yaml"
STUDY = yaml.safe_load(STUDY_FILE.read_text(encoding="utf-8"))
INFERENCE = json.loads((CONFIGS / "inference.json").read_text(encoding="utf-8"))
METADATA = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))

DECLARATIONS: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "table": (TABLE, load_table),
    "stream": (STREAM, load_stream),
    "study": (STUDY, load_stream_study),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "configs" / "studies"
    folder.mkdir(parents=True)
    return folder


def as_yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


@pytest.mark.parametrize("what", DECLARATIONS)
@given(data=st.data())
def test_declarations(place: Path, survives: Survives, data: st.DataObject, what: str) -> None:
    sound, load = DECLARATIONS[what]
    path = place / f"{what}.yaml"
    path.write_text(as_yaml(data.draw(mutated(sound))), encoding="utf-8", errors="replace")
    with survives(place):
        load(path)


@pytest.mark.parametrize("what", DECLARATIONS)
@given(data=st.data())
def test_yaml_that_is_damaged(place: Path, survives: Survives, data: st.DataObject, what: str) -> None:
    sound, load = DECLARATIONS[what]
    path = place / f"{what}.yaml"
    path.write_bytes(data.draw(damaged(as_yaml(sound).encode())))
    with survives(place):
        load(path)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
BAD_YAML = {
    "a billion laughs": LAUGHS + "description: *a11\n",
    "a list in itself": "name: &a [*a]\n",
    "a deep list": "name: " + "[" * 500 + "]" * 500,
    "an impossible day": "name: 2024-99-99\n",
    "an object": "name: !!python/object/apply:os.getpid []\n",
    "a number beyond numbers": "name: " + "9" * 10_000,
    "a null byte": "name: a\0b\n",
    "a document too many": "name: a\n---\nname: b\n",
    "nothing": "",
    "a great deal": "a: " + "x" * 5_000_000,
}


@pytest.mark.parametrize("what", DECLARATIONS)
@pytest.mark.parametrize("bad", BAD_YAML)
def test_yaml_that_means_harm(place: Path, survives: Survives, what: str, bad: str) -> None:
    path = place / f"{what}_bad.yaml"
    path.write_text(BAD_YAML[bad], encoding="utf-8")
    with survives(place), pytest.raises(UserError):
        DECLARATIONS[what][1](path)


CONFIG = {"a": 1, "b": [1, {"c": "@a"}], "d": {"_target_": "torch.nn.Linear", "in_features": "@a", "out_features": 2}}


@given(base=st.one_of(mutated(CONFIG), ODD), overlay=st.one_of(mutated(CONFIG), ODD), overrides=mutated(CONFIG))
def test_configs_and_overrides(place: Path, survives: Survives, base: Any, overlay: Any, overrides: Any) -> None:
    files = [place / "base.json", place / "overlay.json"]
    for path, content in zip(files, (base, overlay), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    with survives(place):
        merged = merge_configs(files, overrides)
        unusual_code(merged)
        check_targets(merged)


@given(config=mutated(INFERENCE))
def test_safety_is_decided_for_any_config(config: dict[str, Any]) -> None:
    for found in (unsafe_parts(config, ("network_def", "preprocessing", "inferer")), unusual_code(config)):
        assert all(isinstance(entry, str) for entry in found)


# --- archives of bundles -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tiny_run: Path) -> bytes:
    return (tiny_run / "models" / "model.pt").read_bytes()


def archive(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return file.getvalue()


def entries(weights: bytes, config: Any = INFERENCE, metadata: Any = METADATA) -> dict[str, bytes]:
    return {
        "b/configs/inference.json": json.dumps(config).encode(),
        "b/configs/metadata.json": json.dumps(metadata).encode(),
        "b/models/model.pt": weights,
    }


@given(data=st.data())
def test_damaged_archives(place: Path, weights: bytes, survives: Survives, data: st.DataObject) -> None:
    path = place / "bundle.zip"
    path.write_bytes(data.draw(damaged(archive(entries(weights)), head=4000)))
    with survives(place):
        Bundle.open(path, safe=True)


PART = st.sampled_from(
    ["..", ".", "", "b", "/", "C:", "\\", "..\\..", "configs", "a\nb", "\u202egnp.x", "~", "x" * 300]
)


@given(names=st.lists(st.lists(PART, min_size=1, max_size=5).map("/".join).filter(bool), min_size=1, max_size=3))
def test_names_in_archives(place: Path, weights: bytes, survives: Survives, names: list[str]) -> None:
    path = place / "bundle.zip"
    path.write_bytes(archive(dict.fromkeys(names, b"x") | entries(weights)))
    with survives(place):
        Bundle.open(path, safe=True)


@given(data=st.data())
def test_configs_in_archives(place: Path, weights: bytes, survives: Survives, data: st.DataObject) -> None:
    """Opened safely, so that what is drawn can be anything: nothing of it runs."""
    path = place / "bundle.zip"
    config, metadata = data.draw(
        st.one_of(
            st.tuples(mutated(INFERENCE), st.just(METADATA)),
            st.tuples(st.just(INFERENCE), mutated(METADATA)),
            st.tuples(ODD, ODD),
        )
    )
    path.write_bytes(archive(entries(weights, config, metadata)))
    with survives(place):
        Bundle.open(path, safe=True)
