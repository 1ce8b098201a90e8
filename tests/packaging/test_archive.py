from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import zipfile
from pathlib import Path

import pytest

from lap_monai.packaging import PackedBundle, pack_bundle

NAME = "cholecseg8k_contrastive"


@pytest.fixture
def bundle(repository: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may spoil."""
    copy = tmp_path / "bundles" / NAME
    shutil.copytree(repository / "bundles" / NAME, copy, ignore=shutil.ignore_patterns("models", "eval"))
    return copy


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "packed.zip"


def contents(packed: PackedBundle) -> dict[str, bytes]:
    with zipfile.ZipFile(packed.path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_archive_holds_one_folder_with_the_bundle_and_its_code(bundle: Path, out: Path) -> None:
    packed = pack_bundle(bundle, out)
    names = set(contents(packed))
    assert {name.partition("/")[0] for name in names} == {NAME}
    assert names == {f"{NAME}/{name}" for name in packed.files}
    for name in ("LICENSE", "large_files.yml", "docs/README.md", "docs/data_license.txt", "configs/logging.conf"):
        assert contents(packed)[f"{NAME}/{name}"]
    assert f"{NAME}/scripts/__init__.py" in names
    assert f"{NAME}/scripts/lap_monai/losses/class_contrastive.py" in names
    assert packed.weights_size == 0
    assert packed.size == out.stat().st_size


def test_results_caches_and_hidden_files_stay_behind(bundle: Path, out: Path) -> None:
    for name in (
        "eval/results.json",
        "models/checkpoint.pt",
        "docs/.draft.md",
        "configs/__pycache__/x.json",
        "notes.txt",
    ):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text("{}")
    for name in pack_bundle(bundle, out).files:
        assert name.startswith(("configs/", "docs/", "scripts/")) or name in ("LICENSE", "large_files.yml")
        assert "draft" not in name
        assert "__pycache__" not in name


def test_no_component_of_the_packed_configs_is_looked_for_in_lap_monai(bundle: Path, out: Path) -> None:
    for name, data in contents(pack_bundle(bundle, out)).items():
        if "/configs/" in name and name.endswith(".json"):
            json.loads(data)
            assert not re.search(rb'"_target_": "lap_monai|import lap_monai', data), name
        if name.endswith(".py"):
            compile(data, name, "exec")
            assert not re.search(rb"^\s*(from|import) lap_monai", data, re.MULTILINE), name


def test_the_packed_readme_says_where_to_run_it(bundle: Path, out: Path) -> None:
    readme = contents(pack_bundle(bundle, out))[f"{NAME}/docs/README.md"].decode()
    original = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    title, rest = original.split("\n", 1)
    assert readme.startswith(f"{title}\n")
    assert readme.endswith(rest)
    assert f"from the folder `{NAME}`" in readme


def test_the_same_input_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    first = pack_bundle(bundle, tmp_path / "first.zip")
    for path in bundle.rglob("*"):
        os.utime(path, (1, 1))
    (bundle / "configs" / "train.json").chmod(0o600)
    second = pack_bundle(bundle, tmp_path / "second.zip")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == second.sha256
    with zipfile.ZipFile(first.path) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_nothing_in_the_archive_tells_of_this_machine(bundle: Path, out: Path, repository: Path) -> None:
    secrets = re.compile(rb"(api[_-]?key|secret|passw(or)?d|token)\s*[:=]|-----BEGIN|AKIA[0-9A-Z]{16}", re.IGNORECASE)
    private = [str(repository), str(Path.home()), str(bundle.parent), socket.gethostname()]
    private += [name for name in (getpass.getuser(),) if len(name) > 5]
    for name, data in contents(pack_bundle(bundle, out)).items():
        for text in private:
            assert len(text) < 6 or text.encode() not in data, (name, text)
        assert not secrets.search(data), name


def test_an_archive_is_replaced_only_by_force(bundle: Path, out: Path) -> None:
    pack_bundle(bundle, out)
    before = out.read_bytes()
    (bundle / "LICENSE").write_text("other")
    with pytest.raises(ValueError, match=r"packed\.zip' exists; .*--force"):
        pack_bundle(bundle, out)
    assert out.read_bytes() == before
    pack_bundle(bundle, out, force=True)
    assert out.read_bytes() != before


def expect_refusal(bundle: Path, out: Path, message: str, weights: Path | None = None) -> None:
    with pytest.raises(ValueError, match=message) as error:
        pack_bundle(bundle, out, weights)
    assert "\n" not in str(error.value)
    assert not out.parent.exists() or not list(out.parent.iterdir())


@pytest.mark.parametrize("name", ["LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md"])
def test_a_folder_that_is_no_bundle_is_refused_with_what_it_lacks(bundle: Path, out: Path, name: str) -> None:
    (bundle / name).unlink()
    expect_refusal(bundle, out, f"is no bundle to pack: it lacks {name}")


def test_a_missing_folder_is_refused(tmp_path: Path, out: Path) -> None:
    expect_refusal(tmp_path / "nowhere", out, "does not exist")


@pytest.mark.parametrize("name", ["LICENSE", "docs/extra.md", "docs/more", "large_files.json"])
def test_symbolic_links_are_refused(bundle: Path, out: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    (bundle / name).unlink(missing_ok=True)
    (bundle / name).symlink_to(tmp_path / "outside" if name == "docs/more" else bundle / "configs" / "metadata.json")
    expect_refusal(bundle, out, "symbolic link|is no bundle" if name == "LICENSE" else "symbolic link")


def test_linked_weights_and_folders_are_refused(bundle: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    (tmp_path / "link.pt").symlink_to(tmp_path / "model.pt")
    expect_refusal(bundle, out, "symbolic link", weights=tmp_path / "link.pt")
    (bundle / "docs").rename(tmp_path / "docs")
    (bundle / "docs").symlink_to(tmp_path / "docs")
    expect_refusal(bundle, out, "symbolic link")


@pytest.mark.parametrize("path", ["/home/ada/data/CholecSeg8k", "/Users/ada/frames", "C:\\\\Users\\\\ada\\\\frames"])
def test_the_path_of_somebodys_home_is_refused(bundle: Path, out: Path, path: str) -> None:
    config = bundle / "configs" / "train.json"
    config.write_text(config.read_text().replace("/workspace/data/CholecSeg8k", path))
    expect_refusal(bundle, out, r"'configs/train\.json' holds the path '.*ada'")


def test_the_path_of_the_bundle_is_refused(bundle: Path, out: Path) -> None:
    (bundle / "docs" / "README.md").write_text(f"# Model Overview\n\ncd {bundle}\n")
    expect_refusal(bundle, out, r"'docs/README\.md' holds the path")


def test_a_misspelled_module_is_refused(bundle: Path, out: Path) -> None:
    config = bundle / "configs" / "train.json"
    config.write_text(config.read_text().replace("lap_monai.losses.MultiLabelLoss", "lap_monai.loses.MultiLabelLoss"))
    expect_refusal(bundle, out, "no module 'loses'")


def test_code_of_the_bundles_own_is_refused(bundle: Path, out: Path) -> None:
    (bundle / "scripts").mkdir()
    expect_refusal(bundle, out, "would be overwritten")


def test_missing_and_damaged_weights_are_refused(bundle: Path, out: Path, tmp_path: Path) -> None:
    expect_refusal(bundle, out, r"no file '.*absent\.pt'", weights=tmp_path / "absent.pt")
    (tmp_path / "damaged.pt").write_bytes(b"not a checkpoint")
    expect_refusal(bundle, out, r"damaged\.pt' is damaged or no checkpoint", weights=tmp_path / "damaged.pt")


def test_a_folder_in_place_of_the_archive_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is a folder; name the archive"):
        pack_bundle(bundle, tmp_path / "folder")


def test_a_failed_write_leaves_the_old_archive(bundle: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack_bundle(bundle, out)
    before = out.read_bytes()

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(ValueError, match=r"Cannot write .*packed\.zip'.*No space left on device"):
        pack_bundle(bundle, out, force=True)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]
