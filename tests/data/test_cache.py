"""Decoding and resizing once: right pixels, never stale or half-built ones."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Resize
from PIL import Image
from tiny_data import write_wide_png

from lap_monai.checks import UserError
from lap_monai.data import FrameCache, read_mask
from lap_monai.data.cache import default_cache_directory


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def visible(folder: Path) -> list[str]:
    """What a cache directory holds beside its (empty) lock files."""
    return [path.name for path in folder.iterdir() if not path.name.endswith(".lock")] if folder.exists() else []


def one_row(image: Path, label: Path | None = None) -> list[dict]:
    return [{"image": str(image), "label": str(label) if label else None, "video": "a", "clip": "a", "frame": 0}]


# --- pixels ---


def test_native_frames_and_masks_are_the_files_pixels(write_rows, tmp_path):
    rows = write_rows(5, (21, 34))
    cache = FrameCache.build(rows, None, tmp_path / "cache")
    assert (len(cache), cache.size) == (5, (21, 34))
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(cache.image(i), pixels(row["image"]))
        np.testing.assert_array_equal(cache.mask(i), pixels(row["label"]))


@pytest.mark.parametrize(("size", "target"), [((48, 86), (24, 43)), ((45, 60), (15, 12)), ((24, 40), (24, 20))])
def test_integer_ratios_equal_monais_area_resize(write_rows, tmp_path, size, target):
    rows = write_rows(3, size)
    cache = FrameCache.build(rows, target, tmp_path / "cache")
    resize = Resize(target, mode="area")
    for i, row in enumerate(rows):
        expected = resize(torch.tensor(pixels(row["image"])).permute(2, 0, 1).float()).permute(1, 2, 0).numpy()
        assert np.abs(cache.image(i) - expected).max() <= 1


def test_other_ratios_average_every_pixel_once(write_rows, tmp_path):
    rows, (height, width) = write_rows(1, (50, 71)), (21, 31)
    image = FrameCache.build(rows, (height, width), tmp_path / "cache").image(0)
    sums, counts = np.zeros((height, width, 3)), np.zeros((height, width, 1))
    source = pixels(rows[0]["image"])
    for y in range(50):
        for x in range(71):
            place = int((y + 0.5) * height / 50), int((x + 0.5) * width / 71)
            sums[place] += source[y, x]
            counts[place] += 1
    assert np.abs(image - sums / counts).max() <= 1


@pytest.mark.parametrize(("size", "target"), [((48, 86), (24, 43)), ((37, 53), (16, 29)), ((24, 40), (31, 17))])
def test_masks_take_pils_nearest_neighbours(write_rows, tmp_path, size, target):
    rows = write_rows(3, size)
    cache = FrameCache.build(rows, target, tmp_path / "cache")
    for i, row in enumerate(rows):
        expected = Image.open(row["label"]).resize(target[::-1], Image.Resampling.NEAREST)
        np.testing.assert_array_equal(cache.mask(i), np.asarray(expected))


@pytest.mark.parametrize("target", [(40, 90), (33, 67), (21, 101)])
def test_frame_and_mask_stay_aligned(tmp_path, target):
    """A mask that is also drawn as the frame: where the averaged frame is pure, the nearest mask says the same."""
    mask = np.full((80, 180), 10, np.uint8)
    mask[13:41, 97:160] = 200
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(mask).save(tmp_path / "frame.png")
    cache = FrameCache.build(one_row(tmp_path / "frame.png", tmp_path / "mask.png"), target, tmp_path / "cache")
    frame, mask = cache.image(0)[..., 0], cache.mask(0)
    pure = (frame == 10) | (frame == 200)
    assert pure.mean() > 0.8
    np.testing.assert_array_equal(frame[pure], mask[pure])
    assert set(np.unique(mask)) == {10, 200}


def test_histograms_count_native_pixels(write_rows, tmp_path):
    rows = write_rows(3, (30, 50))
    rows[1]["label"] = None
    cache = FrameCache.build(rows, (6, 10), tmp_path / "cache")
    assert cache.histograms.shape == (3, 256)
    assert cache.histograms.dtype == np.int64
    np.testing.assert_array_equal(cache.histograms[0], np.bincount(pixels(rows[0]["label"]).ravel(), minlength=256))
    assert cache.histograms[1].sum() == 0
    assert cache.mask(1) is None
    small = Image.open(rows[2]["label"]).resize((10, 6), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(cache.mask(2), np.asarray(small))
    np.testing.assert_array_equal(cache.histograms_of(rows[2:]), cache.histograms[2:])


def test_a_class_of_one_native_pixel_is_counted_though_the_small_mask_lost_it(tmp_path):
    mask = np.full((40, 40), 50, np.uint8)
    mask[0, 0] = 31
    Image.fromarray(mask).save(tmp_path / "mask.png")
    cache = FrameCache.build(one_row(tmp_path / "mask.png", tmp_path / "mask.png"), (5, 5), tmp_path / "cache")
    assert 31 not in cache.mask(0)
    assert cache.histograms[0, 31] == 1


def test_rows_without_any_mask(write_rows, tmp_path):
    cache = FrameCache.build(write_rows(2, masks=False), (6, 10), tmp_path / "cache")
    assert cache.mask(0) is None
    assert cache.histograms.sum() == 0


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "LA", "CMYK"])
def test_frames_of_any_mode_become_rgb(tmp_path, mode):
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8))
    path = tmp_path / ("frame.tif" if mode == "CMYK" else "frame.png")
    rgb.convert(mode).save(path)
    image = FrameCache.build(one_row(path), None, tmp_path / "cache").image(0)
    np.testing.assert_array_equal(image, np.asarray(rgb.convert(mode).convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_masks_of_any_mode_give_raw_values(tmp_path, mode):
    raw = np.random.default_rng(0).choice(np.array([0, 5, 50, 255], np.uint8), (9, 13))
    mask = Image.fromarray(raw)
    if mode == "P":  # indices that stand for colours which are not grey values
        mask.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    else:
        mask = mask.convert(mode)
    mask.save(tmp_path / "mask.png")
    assert Image.open(tmp_path / "mask.png").mode == mode
    assert read_mask(tmp_path / "mask.png").mode == "L"
    cache = FrameCache.build(one_row(tmp_path / "mask.png", tmp_path / "mask.png"), None, tmp_path / "cache")
    np.testing.assert_array_equal(cache.mask(0), raw)


def test_one_size_for_frames_of_several_shapes(write_rows, tmp_path):
    rows = write_rows(2, (20, 40)) + write_rows(3, (33, 21), folder="other")
    cache = FrameCache.build(rows, (10, 16), tmp_path / "cache")
    assert [cache.image(i).shape for i in range(5)] == [(10, 16, 3)] * 5
    with pytest.raises(UserError, match=r"frame_0\.png' is 21x33, the first frame 40x20; give a size"):
        FrameCache.build(rows, None, tmp_path / "cache")


@pytest.mark.real_data
def test_real_frames_equal_monais_area_resize(real_data, tmp_path):
    path = sorted((real_data / "cholecseg8k").glob("video*/*/*_endo.png"))[0]
    cache = FrameCache.build(one_row(path), (240, 427), tmp_path)
    expected = Resize((240, 427), mode="area")(torch.tensor(pixels(str(path))).permute(2, 0, 1).float())
    assert np.abs(cache.image(0) - expected.permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.real_data
def test_jpeg_is_decoded_in_full(real_data, tmp_path):
    """Draft mode would halve while decoding, which is another picture."""
    path = sorted((real_data / "endoscapes_seg50" / "train").glob("*.jpg"))[0]
    cache = FrameCache.build(one_row(path), (240, 427), tmp_path)
    np.testing.assert_array_equal(cache.image(0), np.asarray(Image.open(path).reduce(2)))


# --- life of a cache ---


def test_a_second_call_opens_the_first_ones_files(write_rows, tmp_path, monkeypatch):
    rows = write_rows()
    first = FrameCache.build(rows, (12, 20), tmp_path / "cache")
    monkeypatch.setattr("lap_monai.data.cache._build_folder", lambda *_: pytest.fail("built again"))
    second = FrameCache.build(rows, (12, 20), tmp_path / "cache")
    assert second.folder == first.folder
    np.testing.assert_array_equal(second.image(1), first.image(1))


def test_size_rows_and_file_contents_have_caches_of_their_own(write_rows, tmp_path):
    rows = write_rows()
    folders = {
        FrameCache.build(part, size, tmp_path / "cache").folder
        for part in (rows, rows[:2])
        for size in ((12, 20), (6, 10))
    }
    assert len(folders) == 4
    black = np.zeros((24, 40, 3), np.uint8)
    Image.fromarray(black).save(rows[0]["image"])
    changed = FrameCache.build(rows, (12, 20), tmp_path / "cache")
    assert changed.folder not in folders
    assert changed.image(0).max() == 0


def test_same_bytes_count_but_changed_time_is_noticed(write_rows, tmp_path):
    rows = write_rows()
    first = FrameCache.build(rows, None, tmp_path / "cache").folder
    os.utime(rows[2]["label"], ns=(1, 1))
    assert FrameCache.build(rows, None, tmp_path / "cache").folder != first


def test_a_moved_data_set_keeps_its_cache(write_rows, tmp_path):
    rows = write_rows()
    first = FrameCache.build(rows, None, tmp_path / "cache").folder
    shutil.move(tmp_path / "set", tmp_path / "elsewhere")
    moved = [
        {
            **row,
            **{
                key: row[key].replace(f"{os.sep}set{os.sep}", f"{os.sep}elsewhere{os.sep}")
                for key in ("image", "label")
            },
        }
        for row in rows
    ]
    assert FrameCache.build(moved, None, tmp_path / "cache").folder == first


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "histograms.npy", "cache.json"])
@pytest.mark.parametrize("damage", ["missing", "cut short", "empty"])
def test_a_damaged_cache_is_built_anew(write_rows, tmp_path, caplog, name, damage):
    rows = write_rows()
    folder = FrameCache.build(rows, (12, 20), tmp_path / "cache").folder
    victim = folder / name
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2 if damage == "cut short" else 0])
    with caplog.at_level(logging.WARNING):
        cache = FrameCache.build(rows, (12, 20), tmp_path / "cache")
    assert "damaged" in caplog.text
    np.testing.assert_array_equal(
        cache.mask(3), np.asarray(Image.open(rows[3]["label"]).resize((20, 12), Image.Resampling.NEAREST))
    )
    assert visible(tmp_path / "cache") == [folder.name]


def test_changed_histograms_are_noticed(write_rows, tmp_path, caplog):
    rows = write_rows()
    folder = FrameCache.build(rows, None, tmp_path / "cache").folder
    histograms = np.load(folder / "histograms.npy")
    expected = histograms.copy()
    histograms[0, 50] += 1
    np.save(folder / "histograms.npy", histograms)
    np.testing.assert_array_equal(FrameCache.build(rows, None, tmp_path / "cache").histograms, expected)


def test_what_a_killed_process_left_is_neither_used_nor_kept(write_rows, tmp_path):
    rows = write_rows()
    folder = FrameCache.build(rows, None, tmp_path / "cache").folder
    folder.rename(folder.parent / f".{folder.name}-abcdef")  # as if it had died just before the renaming
    assert FrameCache.build(rows, None, tmp_path / "cache").folder == folder
    assert visible(tmp_path / "cache") == [folder.name]


def _build_in_process(rows, directory, start, queue):
    start.wait()
    cache = FrameCache.build(rows, (12, 20), directory, workers=1, progress=False)
    queue.put((cache.folder.name, int(cache.image(len(rows) - 1).sum()), int(cache.histograms.sum())))


@pytest.mark.slow
def test_processes_that_build_at_once_share_one_sound_cache(write_rows, tmp_path):
    rows = write_rows(40)
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    processes = [
        context.Process(target=_build_in_process, args=(rows, tmp_path / "cache", start, queue)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    start.set()
    results = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(results) == 1
    assert len(visible(tmp_path / "cache")) == 1


def test_pickle_carries_the_place_and_not_the_pixels(write_rows, tmp_path):
    cache = FrameCache.build(write_rows(6, (200, 300)), None, tmp_path / "cache")
    data = pickle.dumps(cache)
    assert len(data) < 10_000 < cache.image(0).nbytes
    np.testing.assert_array_equal(pickle.loads(data).mask(5), cache.mask(5))


def test_views_cannot_change_the_cache(write_rows, tmp_path):
    cache = FrameCache.build(write_rows(), None, tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        cache.image(0)[0] = 0


def test_default_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("LAP_MONAI_CACHE", str(tmp_path))
    assert default_cache_directory() == tmp_path
    monkeypatch.delenv("LAP_MONAI_CACHE")
    assert default_cache_directory() == Path.home() / ".cache" / "lap_monai"


def test_a_finished_cache_in_a_read_only_directory_opens(write_rows, tmp_path, monkeypatch):
    rows = write_rows()
    FrameCache.build(rows, None, tmp_path / "cache")
    monkeypatch.setattr("lap_monai.data.cache.FileLock", lambda *_: pytest.fail("wrote a lock file"))
    assert len(FrameCache.build(rows, None, tmp_path / "cache")) == len(rows)


# --- bad input: one line, nothing left behind ---


def expect_error(rows, directory: Path, match: str, size=(12, 20)) -> None:
    with pytest.raises(UserError, match=match) as error:
        FrameCache.build(rows, size, directory, progress=False)
    assert "\n" not in str(error.value)
    assert visible(directory) == []


def test_missing_files(write_rows, tmp_path):
    rows = write_rows()
    Path(rows[1]["label"]).unlink()
    expect_error(rows, tmp_path / "cache", r"mask .*frame_1_mask\.png' cannot be read \(No such file")
    Path(rows[0]["image"]).unlink()
    expect_error(rows, tmp_path / "cache", r"frame .*frame_0\.png'")
    expect_error(rows, tmp_path / "cache", r"frame .*frame_0\.png' does not exist", size=None)


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize("keep", [0.6, 0.0])
def test_truncated_and_empty_files(write_rows, tmp_path, key, keep):
    rows = write_rows(6, (120, 200))
    path = Path(rows[4][key])
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    expect_error(rows, tmp_path / "cache", f"{path.name}' (cannot be decoded|is damaged)")


def test_a_file_that_is_no_image(write_rows, tmp_path):
    rows = write_rows()
    Path(rows[3]["image"]).write_text("not an image")
    expect_error(rows, tmp_path / "cache", r"frame_3\.png' is damaged or no image file")


def test_a_mask_of_another_size(write_rows, tmp_path):
    rows = write_rows(3, (24, 40))
    Image.fromarray(np.zeros((40, 24), np.uint8)).save(rows[2]["label"])
    expect_error(rows, tmp_path / "cache", r"frame_2_mask\.png' is 24x40, its frame 40x24")


def test_sixteen_bits(write_rows, tmp_path):
    rows = write_rows(2)
    Image.fromarray(np.full((24, 40), 300, np.uint16)).save(rows[0]["label"])
    expect_error(rows, tmp_path / "cache", r"frame_0_mask\.png' has more than 8 bits")


def test_sixteen_bits_in_colour(write_rows, tmp_path):
    rows = write_rows(2)
    write_wide_png(Path(rows[0]["image"]), np.full((24, 40, 3), 600, np.uint16))
    expect_error(rows, tmp_path / "cache", "has more than 8 bits")


def test_no_rows(tmp_path):
    expect_error([], tmp_path / "cache", "no frames to cache")


@pytest.mark.parametrize("size", [(0, 4), (4,), (4, 4, 3)])
def test_impossible_sizes(write_rows, tmp_path, size):
    expect_error(write_rows(), tmp_path / "cache", "size must be", size=size)


def test_a_write_that_fails_midway(write_rows, tmp_path):
    """A real refusal of the system, of files beyond a limit, which is what a full disk or quota is to the writer."""
    rows = write_rows(30, (100, 100))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        expect_error(rows, tmp_path / "cache", "no space for the frame cache in .*LAP_MONAI_CACHE", size=(100, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_too_little_space_is_seen_before_decoding(write_rows, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("lap_monai.data.cache.shutil.disk_usage", lambda _: usage._replace(free=10 * 2**20))
    monkeypatch.setattr("lap_monai.data.cache._map_ahead", lambda *_: pytest.fail("decoded"))
    expect_error(write_rows(), tmp_path / "cache", r"no space .*MiB needed, 10 MiB free")


def test_a_directory_that_cannot_be_made(write_rows, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"no frame cache can be written in .*set LAP_MONAI_CACHE"):
        FrameCache.build(write_rows(), None, tmp_path / "file" / "cache")


def test_an_interrupt_leaves_nothing(write_rows, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lap_monai.data.cache.resize_mask", interrupt)
    with pytest.raises(KeyboardInterrupt):
        FrameCache.build(write_rows(), (12, 20), tmp_path / "cache", progress=False)
    assert visible(tmp_path / "cache") == []
