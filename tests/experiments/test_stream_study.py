from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lap_monai.checks import UserError
from lap_monai.experiments.stream_file import load_stream
from lap_monai.experiments.stream_study import load_stream_study

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STUDIES = sorted((CONFIGS / "studies").glob("*.yaml"))


@pytest.fixture
def load(tmp_path: Path, repository: Path) -> Any:
    """Read a small study with some keys changed."""
    content = {
        "name": "small",
        "bundle": str(repository / "bundles" / "dresden_incremental"),
        "generator": {"bundle": str(repository / "bundles" / "dresden_replay_diffusion")},
        "methods": {"finetune": None, "ssul": {"overlays": ["sigmoid.json", "ssul.json"], "base": ["sigmoid.json"]}},
    }

    def load(**changes: Any) -> Any:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump({**content, **changes}), encoding="utf-8")
        return load_stream_study(path)

    return load


def test_says_what_the_file_says(load: Any) -> None:
    study = load(seeds=[0, 1], settings={"epochs": 3}, run=["ssul"])
    assert [path.name for path in study.methods["finetune"].overlays] == ["finetune.json"]
    assert [path.name for path in study.methods["ssul"].base] == ["sigmoid.json"]
    assert (study.seeds, study.reference) == ((0, 1), "ssul")
    assert [method.name for method in study.choose(None)] == ["ssul"]
    assert [method.name for method in study.choose(["finetune"])] == ["finetune"]


def test_an_unknown_method_is_named_with_what_may_have_been_meant(load: Any) -> None:
    with pytest.raises(UserError, match=r"'finetun'.*Did you mean 'finetune'"):
        load().choose(["finetun"])
    with pytest.raises(UserError, match="'ssul' twice"):
        load().choose(["ssul", "finetune", "ssul"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {}}, "has a key 'method', which studies do not have. Did you mean 'methods'"),
        ({"methods": {"mib": {"overlay": []}}}, "Did you mean 'overlays'"),
        ({"methods": {"mib": {"overlays": ["mibb.json"]}}}, "no config 'mibb.json'. Did you mean 'mib.json'"),
        ({"methods": {"a": {"overlays": ["mib.json"]}, "b": {"overlays": ["mib.json"]}}}, "'a' and 'b' are the same"),
        ({"methods": {"a/b": {}}}, "becomes a folder"),
        ({"settings": {"previous_checkpoint": "x"}}, "'previous_checkpoint' is the runner's"),
        ({"generator": {}}, "generator lacks bundle"),
        ({"run": ["dclc"]}, "Unknown method 'dclc'"),
        ({"streams": ["none.yaml"]}, "no file 'none.yaml'"),
        ({"streams": ["x" * 5000]}, "no file 'xxx"),
        ({"generator": {"bundle": "x" * 5000}}, "no such bundle"),
        ({"base": "other.yaml"}, "No study"),
    ],
)
def test_what_is_wrong_is_named(load: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(**changes)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_of_this_repository_can_be_read(path: Path) -> None:
    study = load_stream_study(path)
    assert study.choose(None)
    for stream in study.streams:
        load_stream(stream)
