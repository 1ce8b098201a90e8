"""Frames without masks, as rows and as samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import RandFlipd
from PIL import Image

from lap_monai.checks import UserError
from lap_monai.data import FrameCache, UnmaskedFrames, read_layout, read_unmasked, row_id


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two patients: one of them in two clips, with a frame that shows nothing."""
    rng = np.random.default_rng(0)
    for name in (
        "anna/frame_10.png",
        "anna/frame_9.png",
        "bert/first/a.JPG",
        "bert/second/b.jpeg",
        "bert/second/c.png",
    ):
        path = tmp_path / "frames" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dark = name.endswith("c.png")
        Image.fromarray(rng.integers(8 if dark else 256, size=(16, 24, 3), dtype=np.uint8)).save(path)
    (tmp_path / "frames" / "anna" / "notes.txt").write_text("not a frame")
    return tmp_path / "frames"


def samples_of(folder: Path, cache: Path, **options: object) -> UnmaskedFrames:
    rows = read_unmasked(folder, "folders")
    return UnmaskedFrames(rows, FrameCache.build(rows, (8, 12), cache), **options)


def test_a_layouts_frames_need_no_masks(tiny_phantom: Path, tmp_path: Path) -> None:
    expected = read_layout(tiny_phantom)
    assert read_unmasked(tiny_phantom) == [{**row, "label": None} for row in expected]
    first = Path(expected[0]["label"])
    kept = first.read_bytes()
    try:
        first.unlink()
        assert len(read_unmasked(tiny_phantom, "cholecseg8k")) == len(expected)
    finally:
        first.write_bytes(kept)


def test_a_folder_for_each_patient_will_do(folders: Path) -> None:
    rows = read_unmasked(folders, "folders")
    assert [Path(row["image"]).name for row in rows] == ["frame_9.png", "frame_10.png", "a.JPG", "b.jpeg", "c.png"]
    assert [row["video"] for row in rows] == ["anna", "anna", "bert", "bert", "bert"]
    assert [row["clip"] for row in rows] == ["anna", "anna", "bert/first", "bert/second", "bert/second"]
    assert len({row_id(row) for row in rows}) == 5
    assert all(row["label"] is None and row["phase"] is None for row in rows)


def test_no_frames_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected PATIENT/…/frame\.png or \.jpg"):
        read_unmasked(tmp_path, "folders")
    with pytest.raises(UserError, match="does not exist"):
        read_unmasked(tmp_path / "nowhere", "folders")


def test_samples_are_the_frames_that_show_something_in_the_range_of_a_diffusion(folders: Path, tmp_path: Path) -> None:
    frames = samples_of(folders, tmp_path / "cache")
    assert len(frames) == 4
    for i, row in enumerate(frames.rows):
        sample = frames[i]
        pixels = np.asarray(Image.open(row["image"]).convert("RGB").reduce(2)).astype(np.float32)
        expected = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)
        torch.testing.assert_close(sample["image"], expected)
        assert (sample["video"], sample["id"]) == (row["video"], row_id(row))
        assert float(sample["image"].abs().max()) <= 1
    assert torch.equal(frames[-1]["image"], frames[3]["image"])
    with pytest.raises(IndexError):
        frames[4]


def test_a_sample_is_a_function_of_index_and_seed(folders: Path, tmp_path: Path) -> None:
    plain = samples_of(folders, tmp_path / "cache")
    frames = samples_of(folders, tmp_path / "cache", transform=RandFlipd("image", prob=0.5, spatial_axis=1))
    drawn = [frames[(1, seed)]["image"] for seed in range(12)]
    assert all(torch.equal(frames[(1, seed)]["image"], image) for seed, image in enumerate(drawn))
    straight = plain[1]["image"]
    kinds = {"straight" if torch.equal(image, straight) else "flipped" for image in drawn}
    assert kinds == {"straight", "flipped"}
    assert all(torch.equal(image, straight) or torch.equal(image, straight.flip(-1)) for image in drawn)
    assert type(drawn[0]) is torch.Tensor


def test_only_black_frames(folders: Path, tmp_path: Path) -> None:
    rows = read_unmasked(folders, "folders")[-1:]
    with pytest.raises(UserError, match="All of the 1 frames are black"):
        UnmaskedFrames(rows, FrameCache.build(rows, (8, 12), tmp_path / "cache"))
