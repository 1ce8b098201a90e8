import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import SIZE, picture, stripes, write_cholecseg8k, write_endoscapes, write_frame

from lap_monai.checks import UserError
from lap_monai.data import Split, scan_layout, write_split
from lap_monai.data.validation import validate

CLIPS = {(video, 80): [80, 81, 82] for video in (1, 2, 3)}


@pytest.fixture
def root(tmp_path):
    return write_cholecseg8k(tmp_path / "set", CLIPS)


def check(root, **arguments):
    return validate(root, progress=False, **arguments)


def findings(result, severity=None):
    """(severity, kind, where) of what was found, without the classes that the tiny sets lack."""
    return [
        (finding.severity, finding.kind, finding.where)
        for finding in result.findings
        if finding.kind != "absent class" and severity in (None, finding.severity)
    ]


def only(result):
    (finding,) = [finding for finding in result.findings if finding.kind != "absent class"]
    return finding


def stem(video, frame):
    return f"video{video:02d}/video{video:02d}_00080/frame_{frame}_endo"


def test_a_sound_set_is_sound(root):
    result = check(root)
    assert result.sound
    assert findings(result) == []


def test_counts_equal_a_plain_loop(root):
    write_frame(root, 2, 80, 83, mask=stripes(31, 31, 31, 255, 12, 0))
    result = check(root, label_space="cholecseg8k_endovit8")
    space, rows = result.label_space, scan_layout(root)[2]
    for video in ("video01", "video02"):
        pixels, frames = dict.fromkeys(space.classes, 0), dict.fromkeys(space.classes, 0)
        for row in (row for row in rows if row["video"] == video):
            ids = space.encode(np.asarray(Image.open(row["label"]))[..., 0])
            for i, name in enumerate(space.classes):
                pixels[name] += int((ids == i).sum())
                frames[name] += int((ids == i).any())
        counts = result.to_json()["videos"][video]["classes"]
        assert {name: count["pixels"] for name, count in counts.items()} == pixels
        assert {name: count["frames"] for name, count in counts.items()} == frames
    total = sum(count["pixels"] for count in result.to_json()["classes"].values())
    assert total + result.to_json()["ignored_pixels"] == len(rows) * SIZE[0] * SIZE[1]


def test_the_result_is_json_able(root):
    result = check(root)
    assert json.loads(json.dumps(result.to_json()))["frames"] == 9


@pytest.mark.parametrize("ending", ["", "_watershed_mask"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_damaged_files_are_errors(root, ending, damage):
    path = root / f"{stem(2, 81)}{ending}.png"
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"not found"}[damage])
    finding = only(check(root))
    assert finding.severity == "error"
    assert finding.kind == ("unreadable mask" if ending else "unreadable frame")
    assert finding.where == f"{stem(2, 81)}{ending}.png"
    assert "\n" not in finding.message
    assert str(root) not in finding.message


def test_unknown_values_are_named_with_file_and_value(root):
    write_frame(root, 1, 80, 82, mask=stripes(50, 7, 99, 255))
    finding = only(check(root))
    assert (finding.severity, finding.where) == ("error", f"{stem(1, 82)}_watershed_mask.png")
    assert f"7 ({SIZE[0] * SIZE[1] // 4} px), 99 (" in finding.message


def test_values_a_coarser_space_drops_are_not_unknown(root):
    write_frame(root, 1, 80, 82, mask=stripes(50, 13, 24, 5))
    assert findings(check(root, label_space="cholecseg8k_zhang8")) == []


def test_alpha_in_a_mask_is_a_warning(root):
    path = root / f"{stem(1, 80)}_watershed_mask.png"
    Image.open(path).convert("RGBA").save(path)
    result = check(root)
    assert result.sound
    assert findings(result) == [("warning", "mask with alpha", f"{stem(1, 80)}_watershed_mask.png")]


def test_a_picture_in_place_of_a_mask_is_an_error(root):
    mask = np.dstack([stripes(50, 11), stripes(50, 11), stripes(50, 21)])
    Image.fromarray(mask).save(root / f"{stem(1, 80)}_watershed_mask.png")
    assert findings(check(root)) == [("error", "coloured mask", f"{stem(1, 80)}_watershed_mask.png")]


def test_a_mask_of_another_size_is_an_error(root):
    write_frame(root, 1, 80, 80, mask=stripes(50, 11, size=(SIZE[0], SIZE[1] // 2)))
    finding = only(check(root))
    assert (finding.severity, finding.kind) == ("error", "mask of another size")
    assert "16x24" in finding.message
    assert "32x24" in finding.message


def test_frames_of_another_size_are_a_warning(root):
    write_frame(root, 3, 80, 82, mask=stripes(50, 11, size=(20, 20)), image=picture(7, (20, 20)))
    finding = only(check(root))
    assert (finding.severity, finding.kind, finding.where) == ("warning", "odd size", "20x20")
    assert "video03_82" in finding.message
    assert "32x24" in finding.message


def test_black_frames_and_empty_masks_are_warnings(root):
    write_frame(root, 3, 80, 80, image=np.full((*SIZE, 3), 5, dtype=np.uint8))
    write_frame(root, 3, 80, 81, image=np.zeros((*SIZE, 3), dtype=np.uint8), mask=stripes(255, 0))
    assert findings(check(root)) == [
        ("warning", "black frame", f"{stem(3, 80)}.png"),
        ("warning", "black frame", f"{stem(3, 81)}.png"),
        ("warning", "empty mask", f"{stem(3, 81)}_watershed_mask.png"),
    ]


@pytest.mark.parametrize(
    ("ending", "kind"), [("", "missing frame"), ("_watershed_mask", "missing mask"), ("_mask", "missing by-product")]
)
def test_missing_files(root, ending, kind):
    (root / f"{stem(2, 80)}{ending}.png").unlink()
    severity = "warning" if kind == "missing by-product" else "error"
    assert findings(check(root)) == [(severity, kind, f"{stem(2, 80)}{ending}.png")]


def test_a_frame_in_two_clips_is_a_warning(root):
    write_frame(root, 1, 82, 82)
    assert findings(check(root)) == [
        ("warning", "repeated frame", "video01_82"),
        ("warning", "duplicate", "video01"),
    ]


def test_missing_phases_are_told_only_where_others_exist(root):
    text = "Frame\tPhase\n" + "".join(f"{i}\tPreparation\n" for i in range(100))
    for video in ("video01", "video03"):
        (root / f"{video}-phase.txt").write_text(text)
    assert findings(check(root)) == [("warning", "missing phase", "video02")]


def write(tmp_path, **parts):
    split = Split("mine", "test", **{part: parts.get(part, ()) for part in ("train", "val", "test")})
    return write_split(tmp_path / "mine.json", split)


def test_a_picture_in_two_parts_is_an_error_and_in_one_part_a_warning(root, tmp_path):
    write_frame(root, 2, 80, 83, image=picture(1080))  # video01's frame 80
    near = np.clip(picture(1081).astype(int) + 6, 0, 255).astype(np.uint8)
    write_frame(root, 3, 80, 83, image=near)  # video01's frame 81, brighter
    split = write(tmp_path, train=("video01", "video02"), val=("video03",))
    assert findings(check(root, split=split)) == [
        ("error", "near-duplicate across the split", "video01 (train) and video03 (val)"),
        ("warning", "duplicate", "video01 and video02"),
    ]
    assert findings(check(root)) == [
        ("warning", "duplicate", "video01 and video02"),
        ("warning", "near-duplicate", "video01 and video03"),
    ]


def test_a_class_tested_but_never_taught_is_an_error(root, tmp_path):
    write_frame(root, 3, 80, 83, mask=stripes(50, 33))
    split = write(tmp_path, train=("video01",), val=("video02",), test=("video03",))
    result = check(root, split=split)
    (error,) = result.errors
    assert (error.kind, error.where) == ("class absent from train", "Hepatic Vein")
    assert "occurs in test" in error.message
    assert check(root, split=split, label_space="cholecseg8k_zhang8").sound


def test_a_class_taught_but_not_tested_is_a_warning(root, tmp_path):
    write_frame(root, 1, 80, 83, mask=stripes(50, 33))
    split = write(tmp_path, train=("video01",), val=("video02",), test=("video03",))
    result = check(root, split=split)
    assert result.sound
    (finding,) = [finding for finding in result.findings if finding.where == "Hepatic Vein"]
    assert "val and test" in finding.message
    assert any(f.where == "Blood" and "whole data set" in f.message for f in result.findings)


def test_videos_between_split_and_disk(root, tmp_path):
    split = write(tmp_path, train=("video01", "video07"), val=("video08",), test=("video02",))
    assert findings(check(root, split=split)) == [
        ("error", "split", "split mine, val"),
        ("warning", "split", "split mine, train"),
        ("warning", "split", "split mine"),
    ]


def test_folders_are_checked_as_a_split(tmp_path):
    root = write_endoscapes(tmp_path / "e", {"train": [(1, 10), (2, 10)], "val": [(3, 10)]})
    result = check(root)
    assert result.sound
    assert result.split.train == ("1", "2")
    Image.fromarray(picture(2010)).save(root / "val" / "2_20.jpg")
    Image.fromarray(stripes(0, 6)).save(root / "semseg" / "2_20.png")
    result = check(root)
    assert result.split is None
    assert [("split", "2 occurs twice" in finding.message) for finding in result.errors] == [("split", True)]


def test_palette_masks_count_their_indices(tmp_path):
    root = write_endoscapes(tmp_path / "e", {"train": [(1, 10)]})
    path = root / "semseg" / "1_10.png"
    plain = check(root).to_json()["classes"]
    palette = Image.fromarray(np.asarray(Image.open(path)), mode="P")
    palette.putpalette([255 - i // 3 for i in range(768)])
    palette.save(path)
    assert check(root).to_json()["classes"] == plain


def test_one_thread_and_many_agree(root):
    assert check(root, workers=1).to_json() == check(root, workers=8).to_json()


def test_bad_arguments_are_refused(root, tmp_path):
    with pytest.raises(UserError, match=r"'endoscapes_7' .*this data set is 'cholecseg8k'"):
        check(root, label_space="endoscapes_7")
    with pytest.raises(UserError, match="There is no split"):
        check(root, split="nope")
    with pytest.raises(UserError, match="does not exist"):
        check(tmp_path / "nowhere")
    (tmp_path / "bare" / "video01" / "video01_00080").mkdir(parents=True)
    assert [finding.kind for finding in check(tmp_path / "bare").errors] == ["empty data set"]


@pytest.mark.real_data
@pytest.mark.slow
def test_real_endoscapes_has_one_bad_mask_and_no_leak(real_data):
    result = check(real_data / "endoscapes_seg50")
    # The ids of this mask are one too high: gallbladder is 6 and tool 7.
    assert [Path(finding.where).name for finding in result.errors] == ["153_32700.png"]
    assert {finding.kind for finding in result.findings if finding.severity == "warning"} == {"black frame"}


@pytest.mark.real_data
@pytest.mark.slow
def test_real_cholecseg8k_clips_are_sound(real_data):
    result = check(real_data / "cholecseg8k")
    assert findings(result) == []
    # The two clips hold 8 of the 13 classes.
    assert sum(count["pixels"] > 0 for count in result.to_json()["classes"].values()) == 8
