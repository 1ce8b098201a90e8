"""The set on disk: traceable, extendable, resumable, and suspicious of what it finds."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lap_monai.checks import UserError
from lap_monai.data import FrameCache, row_id
from lap_monai.replay import SyntheticSet, image_seed

SIZE = (8, 12)
GENERATOR = {"sha256": "0123456789abcdef" * 4, "frame_size": SIZE, "prediction_type": "v_prediction"}
SAMPLER = {"name": "ddim", "steps": 5}


def draw(seeds: list[int]) -> np.ndarray:
    """A generator: noise of the seed."""
    return np.stack([np.random.default_rng(seed).integers(256, size=(*SIZE, 3), dtype=np.uint8) for seed in seeds])


def grow(synthetic: SyntheticSet, count: int, at_once: int = 4) -> SyntheticSet:
    """Bring a set to `count` images, as the generation does."""
    while len(synthetic) < count:
        synthetic.extend(draw(synthetic.next_seeds(min(at_once, count - len(synthetic)))))
    return synthetic


def start(folder: Path, **changes: Any) -> SyntheticSet:
    arguments = {"generator": GENERATOR, "sampler": SAMPLER, "seed": 7} | changes
    return SyntheticSet.create(folder, **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def synthetic(tmp_path: Path) -> SyntheticSet:
    """Ten images."""
    return grow(start(tmp_path / "set"), 10)


def test_images_and_manifest_say_the_same(synthetic: SyntheticSet) -> None:
    manifest = json.loads((synthetic.folder / "manifest.json").read_text())
    assert manifest["version"] == 1
    assert manifest["generator"] == {**GENERATOR, "frame_size": list(SIZE)}
    assert (manifest["sampler"], manifest["seed"], manifest["audit"]) == (SAMPLER, 7, None)
    for index, entry in enumerate(manifest["images"]):
        path = synthetic.folder / "images" / "00000" / f"{index:08d}.png"
        assert entry["file"] == path.relative_to(synthetic.folder).as_posix()
        assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (entry["index"], entry["scores"], entry["dropped"]) == (index, {}, [])
        np.testing.assert_array_equal(np.asarray(Image.open(path)), draw([entry["seed"]])[0])
    assert len(manifest["images"]) == 10


def test_seeds_are_a_function_of_base_and_index_and_fit_into_json() -> None:
    seeds = [image_seed(base, index) for base in range(3) for index in range(500)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert image_seed(1, 2) == image_seed(1, 2)


@pytest.mark.parametrize("at_once", [1, 3, 10])
def test_a_set_is_the_same_whatever_the_batches_and_however_often_it_was_left(
    synthetic: SyntheticSet, tmp_path: Path, at_once: int
) -> None:
    other = tmp_path / "other"
    grow(start(other), 4, at_once)
    (other / ".manifest.0123abcd.json").write_text("{")  # of a process that was killed while it wrote
    grow(start(other), 10, at_once)  # another process that goes on
    assert contents(other) == contents(synthetic.folder)


def test_a_thousand_images_fill_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lap_monai.replay.synthetic_set._SHARD", 4)
    folder = grow(start(tmp_path / "set"), 10).folder
    shards = {path.name: len(list(path.iterdir())) for path in (folder / "images").iterdir()}
    assert shards == {"00000": 4, "00001": 4, "00002": 2}
    assert len(SyntheticSet.open(folder)) == 10


def test_a_process_killed_within_a_batch_is_continued_to_the_identical_set(
    synthetic: SyntheticSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = grow(start(tmp_path / "other"), 4)
    written = []
    save = Image.Image.save

    def killed(image: Image.Image, path: Path) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            grow(other, 10)
    assert len(contents(other.folder)) == 1 + 4 + 2  # whole files without an entry, and no piece of a file
    assert len(SyntheticSet.open(other.folder)) == len(other) == 4
    grow(SyntheticSet.open(other.folder), 10)
    assert contents(other.folder) == contents(synthetic.folder)


@pytest.mark.parametrize("full_at", ["image", "manifest"])
def test_a_full_disk_leaves_the_set_as_it_was(
    synthetic: SyntheticSet, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    before = contents(synthetic.folder)

    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    where = {"image": (Image.Image, "save"), "manifest": (Path, "write_text")}[full_at]
    with monkeypatch.context() as patch:
        patch.setattr(*where, full)
        with pytest.raises(UserError, match="No space left on device; free space"):
            grow(synthetic, 14)
    assert len(synthetic) == 10
    assert len(SyntheticSet.open(synthetic.folder)) == 10
    after = contents(synthetic.folder)
    assert before.items() <= after.items()
    assert not [name for name in after if Path(name).name.startswith(".")]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"seed": 8}, "made with seed 7, now it is 8"),
        ({"sampler": {"name": "ddim", "steps": 6}}, "sampler.steps 5, now it is 6"),
        ({"sampler": {"name": "ddim", "steps": 5, "eta": 1}}, "sampler.eta None, now it is 1"),
        ({"generator": GENERATOR | {"sha256": "other"}}, "generator.sha256 '0123"),
        ({"generator": GENERATOR | {"frame_size": [8, 8]}}, r"generator.frame_size \[8, 12\], now it is \[8, 8\]"),
    ],
)
def test_only_what_started_a_set_goes_on_with_it(synthetic: SyntheticSet, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        start(synthetic.folder, **changes)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds files but no manifest\.json; name another folder"):
        start(tmp_path)


def test_a_set_that_was_killed_at_its_first_file_begins_anew(tmp_path: Path) -> None:
    (tmp_path / ".manifest.0123abcd.json").write_text("{")
    assert len(start(tmp_path)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, *SIZE, 3))])
def test_images_of_another_size_or_type_are_refused(synthetic: SyntheticSet, images: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"set of 12x8 images was given .*; generate with frame_size \[8, 12\]"):
        synthetic.extend(images)
    assert len(synthetic) == 10


# --- scores, dropping, audit -----------------------------------------------------------------------------------------


def test_what_filters_and_audit_found_is_kept_and_rows_leave_the_dropped_out(synthetic: SyntheticSet) -> None:
    synthetic.set_scores({2: {"nearest": 0.5}, 3: {"nearest": float("nan")}})
    synthetic.set_scores({2: {"confidence": 0.9}})
    for reason in ("memorised", "memorised", "dark"):
        synthetic.drop(3, reason)
    synthetic.set_audit({"flagged": 0.1})
    synthetic.save()
    found = SyntheticSet.open(synthetic.folder)
    assert found.images[2].scores == {"nearest": 0.5, "confidence": 0.9}
    assert found.images[3].scores == {"nearest": None}  # JSON has no NaN
    assert found.images[3].dropped == ["memorised", "dark"]
    assert found.audit == {"flagged": 0.1}
    assert [row["frame"] for row in found.rows()] == [0, 1, 2, 4, 5, 6, 7, 8, 9] == [i.index for i in found.kept]
    found.keep(["memorised"])
    assert found.images[3].dropped == ["dark"]
    found.keep(["dark", "never given"])
    assert len(found.rows()) == 10


def test_an_audit_does_not_outlive_the_images_it_saw(synthetic: SyntheticSet) -> None:
    synthetic.set_audit({"flagged": 0.0})
    synthetic.drop(1, "dark")
    grow(synthetic, 11)
    assert SyntheticSet.open(synthetic.folder).audit is None
    assert SyntheticSet.open(synthetic.folder).images[1].dropped == ["dark"]


def test_rows_are_read_by_the_cache_like_any_frames(synthetic: SyntheticSet, tmp_path: Path) -> None:
    rows = synthetic.rows()
    cache = FrameCache.build(rows, None, tmp_path / "cache")
    for index in (0, 9):
        np.testing.assert_array_equal(cache.image(index), synthetic.read(index))
        assert cache.mask(index) is None
    assert len({row_id(row) for row in rows}) == 10
    other = start(tmp_path / "other", generator=GENERATOR | {"sha256": "f" * 64})
    assert not {row_id(row) for row in grow(other, 3).rows()} & {row_id(row) for row in rows}


# --- distrust --------------------------------------------------------------------------------------------------------


def test_verify_accepts_what_was_written(synthetic: SyntheticSet) -> None:
    assert synthetic.verify() == {"images": 10, "redrawn": 0, "largest_difference": 0}
    assert synthetic.verify(draw, sample=4) == {"images": 10, "redrawn": 4, "largest_difference": 0}
    assert synthetic.verify(draw, sample=99)["redrawn"] == 10


def _recoded(path: Path) -> None:
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("spoil", [_recoded, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_verify_finds_one_changed_bit(synthetic: SyntheticSet, spoil: Callable[[Path], None]) -> None:
    spoil(synthetic.path(4))
    with pytest.raises(UserError, match=r"00000004\.png' is not the image that the manifest names; restore"):
        synthetic.verify()
    spoil(synthetic.path(8))
    with pytest.raises(UserError, match=r"00000004\.png' .* \(and 1 more\)"):
        SyntheticSet.open(synthetic.folder).verify()


def test_verify_finds_another_generator_and_tolerates_what_it_is_told_to(synthetic: SyntheticSet) -> None:
    def otherwise(seeds: list[int]) -> np.ndarray:
        return draw(seeds) ^ 1  # every pixel by one grey level

    with pytest.raises(UserError, match=r"by up to 1 grey levels \(allowed: 0\); use the generator and machine"):
        synthetic.verify(otherwise)
    assert synthetic.verify(otherwise, tolerance=1)["largest_difference"] == 1
    with pytest.raises(UserError, match=r"is not what its generator draws .*and 9 more"):
        synthetic.verify(lambda seeds: draw([seed + 1 for seed in seeds]), tolerance=1)


def test_a_missing_image_is_named(synthetic: SyntheticSet) -> None:
    synthetic.path(3).unlink()
    synthetic.path(5).unlink()
    with pytest.raises(UserError, match=r"names 'images/00000/00000003\.png', which is missing \(and 1 more\)"):
        SyntheticSet.open(synthetic.folder)


def test_an_image_of_another_size_is_named(synthetic: SyntheticSet) -> None:
    Image.new("RGB", (5, 6)).save(synthetic.path(3))
    with pytest.raises(UserError, match=r"00000003\.png' is 5x6, the set's generator draws 12x8"):
        synthetic.read(3)


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        manifest = json.loads(text)
        change(manifest)
        return json.dumps(manifest)

    return edit


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda text: text[:-20], "is damaged .JSONDecodeError"),
        (lambda text: "[]", "is damaged .TypeError"),
        (_edited(lambda m: m.pop("sampler")), "is damaged .KeyError"),
        (_edited(lambda m: m["images"][1].pop("seed")), "is damaged .TypeError"),
        (_edited(lambda m: m.update(version=2)), "is of version 2, this lap_monai reads 1"),
        (_edited(lambda m: m["images"][1].update(file="../../elsewhere.png")), "entry 1 names image 1, '../../else"),
        (_edited(lambda m: m["images"].pop(1)), "entry 1 names image 2"),
    ],
)
def test_a_damaged_manifest_is_refused(synthetic: SyntheticSet, edit: Callable[[str], str], match: str) -> None:
    path = synthetic.folder / "manifest.json"
    path.write_text(edit(path.read_text()))
    with pytest.raises(UserError, match=match) as error:
        SyntheticSet.open(synthetic.folder)
    assert "\n" not in str(error.value)
    assert "manifest.json" in str(error.value)


def test_no_set_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.json is missing; generate one first"):
        SyntheticSet.open(tmp_path)
