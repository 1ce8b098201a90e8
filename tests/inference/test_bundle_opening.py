"""A folder, an archive and a run folder; and what must not be opened."""

import json
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
import torch
from command_line import FEATURES

from lap_monai.checks import UserError
from lap_monai.inference import Bundle, TorchEngine, open_engine
from lap_monai.label_space import get_label_space
from lap_monai.packaging import pack_bundle

SOURCE = Path("bundles/cholecseg8k_contrastive")


@pytest.fixture
def folder(repository, tiny_run, tmp_path):
    """The bundle's folder with the weights of the tiny training, and a config that fits them."""
    copy = tmp_path / "a bundle"
    shutil.copytree(repository / SOURCE, copy, ignore=shutil.ignore_patterns("models", "eval"))
    (copy / "models").mkdir()
    shutil.copy(tiny_run / "models" / "model.pt", copy / "models" / "model.pt")
    change(copy / "configs" / "inference.json", lambda config: config["network_def"].update(features=FEATURES))
    return copy


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_folder_archive_and_run_folder_hold_the_same_network(folder, tiny_run, tmp_path):
    archive = pack_bundle(folder, tmp_path / "bundle.zip").path
    bundles = [Bundle.open(path) for path in (folder, archive, tiny_run)]
    image = torch.rand(1, 3, 64, 64)
    outputs = [TorchEngine(bundle.build_network())(image) for bundle in bundles]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert {bundle.weights_sha256 for bundle in bundles} == {bundles[0].weights_sha256}
    assert {bundle.label_space for bundle in bundles} == {get_label_space("cholecseg8k_zhang8")}
    assert [bundle.stride for bundle in bundles] == [16] * 3  # four poolings; the metadata's 32 is for all overlays
    assert bundles[2].preprocessing.size == (32, 48)  # the training's, not the config's


def test_classes_that_are_not_ours_come_from_the_metadata(folder):
    channels = {str(i): f"thing {i}" for i in range(8)}
    change(
        folder / "configs" / "metadata.json",
        lambda data: data["network_data_format"]["outputs"]["pred"].update(channel_def=channels),
    )
    space = Bundle.open(folder).label_space
    assert space.classes == tuple(channels.values())
    assert len(set(space.colours)) == 8


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("metadata", lambda c: c["network_data_format"]["outputs"]["pred"]["channel_def"].pop("7"), "8 classes"),
        ("metadata", lambda c: c["network_data_format"]["outputs"]["pred"]["channel_def"].pop("0"), "lacks class"),
        ("inference", lambda c: c.update(num_classes=7), "does not fit"),
        ("inference", lambda c: c.pop("network_def"), "no 'network_def'"),
        ("inference", lambda c: c["network_def"].update(features="$1 / 0"), "'network_def' of"),
    ],
)
def test_configs_that_disagree_are_refused(folder, name, edit, message):
    change(folder / "configs" / f"{name}.json", edit)
    with pytest.raises(UserError, match=message):
        Bundle.open(folder)


def test_weights_of_another_label_space_are_refused(folder):
    names = {str(i): name for i, name in enumerate(get_label_space("cholecseg8k_endovit8").classes)}
    change(
        folder / "configs" / "metadata.json",
        lambda data: data["network_data_format"]["outputs"]["pred"].update(channel_def=names),
    )
    with pytest.raises(UserError, match="label_space 'cholecseg8k_zhang8'"):
        Bundle.open(folder)


def test_damaged_and_missing_weights_are_refused(folder):
    weights = folder / "models" / "model.pt"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        Bundle.open(folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"holds no models/model\.pt"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "bundle/../../evil.txt", "..\\evil.txt", "C:/evil.txt"])
def test_an_archive_that_climbs_out_is_refused_and_writes_nothing(folder, tmp_path, name):
    path = pack_bundle(folder, tmp_path / "in" / "bundle.zip").path
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "out")
    with pytest.raises(UserError, match="leads outside"):
        Bundle.open(path)
    assert not list(tmp_path.rglob("evil.txt"))


def test_an_archive_with_a_link_is_refused(folder, tmp_path):
    path = pack_bundle(folder, tmp_path / "bundle.zip").path
    link = zipfile.ZipInfo("bundle/docs/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(UserError, match="leads outside"):
        Bundle.open(path)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Bundle.open(tmp_path / "none")
    with pytest.raises(UserError, match="neither a bundle"):
        Bundle.open(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"PK no")
    with pytest.raises(UserError, match="damaged or no zip"):
        Bundle.open(tmp_path / "a.zip")


def test_engines_that_are_not_there_are_named(tiny_bundle):
    with pytest.raises(UserError, match=r"engine 'torhc'.*Did you mean 'torch'"):
        open_engine("torhc", tiny_bundle)
    with pytest.raises(UserError, match="precision 'float8'"):
        open_engine("torch", tiny_bundle, "cpu", "float8")
    with pytest.raises(UserError, match="device 'cuda:77' cannot be used"):
        open_engine("torch", tiny_bundle, "cuda:77")
