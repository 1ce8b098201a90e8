"""What every bundle's folder must hold, read and not run; what one bundle alone promises has a file of its own.

The commands of the READMEs are parsed by `tests/test_docs.py`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import download_large_files, verify_metadata

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(path.parent for path in ROOT.glob("bundles/*/configs"))
#: As the model zoo wants them.
HEADINGS = (
    "# Model Overview",
    "## Data",
    "### Preprocessing",
    "## Training configuration",
    "### Input",
    "### Output",
    "## Performance",
    "## MONAI Bundle Commands",
    "# References",
    "# License",
)


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def folder(request: pytest.FixtureRequest) -> Path:
    """Each bundle's folder."""
    return request.param


@pytest.fixture
def metadata(folder: Path) -> dict[str, Any]:
    """Each bundle's `metadata.json`."""
    return json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))


@pytest.fixture
def readme(folder: Path) -> str:
    """Each bundle's README."""
    return (folder / "docs" / "README.md").read_text(encoding="utf-8")


def test_metadata_fits_the_schema_of_the_model_zoo(folder: Path) -> None:
    schema = ROOT / "tests" / "resources" / "meta_schema_20240725.json"
    metadata = str(folder / "configs" / "metadata.json")
    verify_metadata(meta_file=metadata, filepath=str(schema), hash_val="76e1add273836515d0bbb3bc71962474")


def test_metadata_pins_what_the_repository_is_tested_with(metadata: dict[str, Any]) -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    tested = dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.MULTILINE))
    own = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    pins = {name: metadata[key] for name, key in own.items()} | metadata["required_packages_version"]
    assert pins == {name: tested.get(name, "not in constraints.txt") for name in pins}


def test_metadata_tells_what_changed_in_this_version(metadata: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["version"])
    assert metadata["changelog"][metadata["version"]]
    assert next(iter(metadata["changelog"])) == metadata["version"]


def test_large_files_lists_nothing_to_download(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai.bundle.scripts.download_url", lambda *a, **k: pytest.fail("downloads"))
    download_large_files(bundle_path=str(folder))


def test_the_readme_has_the_headings_of_the_model_zoo(readme: str) -> None:
    lines = readme.splitlines()
    assert [heading for heading in HEADINGS if heading not in lines] == []


def test_the_readme_names_every_config(folder: Path, readme: str) -> None:
    stems = {path.stem for path in (folder / "configs").glob("*.json")} - {"metadata"}
    named = {*re.findall(r"`(\w+)\.json`", readme), *re.findall(r"configs/(\w+)\.json", readme)}
    assert stems - named == set()


def test_the_licences_are_there(folder: Path) -> None:
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "License: " in (folder / "docs" / "data_license.txt").read_text(encoding="utf-8")
