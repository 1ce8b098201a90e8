import json
import warnings

import pytest
from tiny_data import stripes, write_cholecseg8k, write_endoscapes, write_frame

from lap_monai.checks import UserError
from lap_monai.data import (
    LAYOUTS,
    detect_layout,
    find_layout,
    read_cholecseg8k,
    read_endoscapes,
    read_layout,
    row_id,
    scan_layout,
)
from lap_monai.label_space import get_label_space

CLIPS = {(1, 80): [80, 81, 99, 100, 9], (9, 5): [5], (1, 1000): [1000]}


@pytest.fixture
def cholecseg8k(tmp_path):
    return write_cholecseg8k(tmp_path / "set", CLIPS)


def test_rows_are_sorted_by_numbers_and_json_able(cholecseg8k):
    rows = read_cholecseg8k(cholecseg8k)
    assert [row_id(row) for row in rows] == [
        *(f"video01_{frame}" for frame in (9, 80, 81, 99, 100, 1000)),
        "video09_5",
    ]
    assert json.loads(json.dumps(rows)) == rows
    row = rows[1]
    assert row["image"] == str(cholecseg8k / "video01" / "video01_00080" / "frame_80_endo.png")
    assert row["label"] == str(cholecseg8k / "video01" / "video01_00080" / "frame_80_endo_watershed_mask.png")
    assert (row["video"], row["clip"], row["frame"], row["phase"]) == ("video01", "video01_00080", 80, None)


def test_phases_join_from_a_folder_and_from_inside(cholecseg8k, tmp_path):
    inside = cholecseg8k / "phase_annotations"
    inside.mkdir()
    text = "Frame\tPhase\n" + "".join(f"{i}\t{'Preparation' if i < 90 else 'ClippingCutting'}\n" for i in range(1100))
    (inside / "video01-phase.txt").write_text(text)
    for rows in (read_cholecseg8k(cholecseg8k), read_cholecseg8k(cholecseg8k, phases_dir=inside)):
        phases = {row_id(row): row["phase"] for row in rows}
        assert phases["video01_81"] == "Preparation"
        assert phases["video01_99"] == "ClippingCutting"
        assert phases["video09_5"] is None
    with pytest.raises(UserError, match=r"phases_dir .* does not exist"):
        read_cholecseg8k(cholecseg8k, phases_dir=tmp_path / "none")


def test_the_parent_of_the_only_data_set_will_do(cholecseg8k):
    (cholecseg8k.parent / "other").mkdir()
    assert read_layout(cholecseg8k.parent) == read_layout(cholecseg8k)


def test_of_several_data_sets_one_must_be_named(cholecseg8k):
    write_endoscapes(cholecseg8k.parent / "endo", {"train": [(1, 10)]})
    with pytest.raises(UserError, match=r"several data sets: endo/ \(endoscapes\), set/ \(cholecseg8k\)"):
        read_layout(cholecseg8k.parent)
    assert len(read_layout(cholecseg8k.parent, "cholecseg8k")) == 7


def test_endoscapes_rows_have_their_split(tmp_path):
    root = write_endoscapes(tmp_path / "e", {"train": [(10, 900), (10, 1000), (9, 1)], "val": [(11, 5)]})
    rows = read_endoscapes(root)
    assert [(row["split"], row["video"], row["frame"]) for row in rows] == [
        ("train", "9", 1),
        ("train", "10", 900),
        ("train", "10", 1000),
        ("val", "11", 5),
    ]
    assert rows[0]["label"] == str(root / "semseg" / "9_1.png")
    assert json.loads(json.dumps(rows)) == rows
    assert len({row["clip"] for row in rows}) == 4


def test_unmasked_frames_of_the_full_publication_are_left_out(tmp_path):
    root = write_endoscapes(tmp_path / "e", {"train": [(1, 10), (1, 20)], "train_seg": [(2, 10), (2, 20)]})
    (root / "semseg" / "2_20.png").unlink()
    _, _, rows, findings = scan_layout(root)
    assert [row["image"] for row in rows] == [str(root / "train_seg" / "2_10.jpg")]
    assert {(finding.severity, finding.kind) for finding in findings} == {
        ("warning", "frames without mask"),
        ("warning", "mask without frame"),
    }
    read_endoscapes(root)


def test_frames_that_the_manifest_lists_must_be_complete(tmp_path):
    root = write_endoscapes(tmp_path / "e", {"train": [(1, 10), (1, 20)]})
    (root / "frames.json").write_text('{"1_10": {}, "1_20": {}, "1_30": {}}')
    (root / "semseg" / "1_20.png").unlink()
    _, _, rows, findings = scan_layout(root)
    assert [row["label"] is None for row in rows] == [False, True]
    assert [(finding.severity, finding.where) for finding in findings] == [
        ("error", "semseg/1_20.png"),
        ("error", "1_30.jpg"),
    ]
    with pytest.raises(UserError, match=r"semseg/1_20\.png: missing.*and 1 more"):
        read_endoscapes(root)


@pytest.mark.parametrize("manifest", ["{", "7"])
def test_a_damaged_manifest_is_named(tmp_path, manifest):
    root = write_endoscapes(tmp_path / "e", {"train": [(1, 10)]})
    (root / "frames.json").write_text(manifest)
    with pytest.raises(UserError, match=r"frames\.json is no JSON object"):
        read_endoscapes(root)


@pytest.mark.parametrize(
    ("ending", "kind"), [("", "missing frame"), ("_watershed_mask", "missing mask")], ids=["frame", "mask"]
)
def test_half_a_pair_is_refused_and_named(cholecseg8k, ending, kind):
    clip = cholecseg8k / "video01" / "video01_00080"
    (clip / f"frame_99_endo{ending}.png").unlink()
    with pytest.raises(UserError, match=rf"frame_99_endo{ending}\.png: missing"):
        read_cholecseg8k(cholecseg8k)
    _, _, rows, findings = scan_layout(cholecseg8k)
    assert [finding.kind for finding in findings] == [kind]
    assert sum(row["label"] is None for row in rows) == (kind == "missing mask")


def test_missing_by_products_do_not_matter(cholecseg8k):
    clip = cholecseg8k / "video01" / "video01_00080"
    for kind in ("mask", "color_mask"):
        (clip / f"frame_99_endo_{kind}.png").unlink()
    assert len(read_cholecseg8k(cholecseg8k)) == 7
    (finding,) = scan_layout(cholecseg8k)[3]
    assert finding.severity == "warning"
    assert "frame_99_endo_color_mask.png" in finding.where


def test_foreign_files_are_passed_over(cholecseg8k):
    (cholecseg8k / "video01" / "video01_00080" / "frame_80_endo.png.part").write_text("x")
    (cholecseg8k / "video01" / "notes").mkdir()
    (cholecseg8k / "video01_extra").mkdir()
    (cholecseg8k / "video01" / "Thumbs.db").write_text("x")
    assert len(read_cholecseg8k(cholecseg8k)) == 7


def test_folders_without_a_data_set_say_what_was_expected_and_found(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_layout(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        read_layout(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected videoXX.*found an empty folder"):
        read_layout(tmp_path / "empty")
    (tmp_path / "empty" / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"expected videoXX.*semseg.*found a\.txt"):
        detect_layout(tmp_path / "empty")


def test_clips_without_frames_are_refused(tmp_path):
    (tmp_path / "video01" / "video01_00080").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no frames"):
        read_layout(tmp_path)


def test_another_layout_than_expected_is_told(cholecseg8k):
    with pytest.raises(UserError, match="looks like layout 'cholecseg8k'"):
        read_endoscapes(cholecseg8k)
    with pytest.raises(UserError, match="Unknown layout 'cholecseg'"):
        read_layout(cholecseg8k, "cholecseg")


def test_rows_name_absolute_normal_paths(cholecseg8k, monkeypatch):
    monkeypatch.chdir(cholecseg8k / "video01")
    assert read_layout("..") == read_layout(cholecseg8k)


def test_every_layout_names_a_label_space_of_its_own():
    for name, layout in LAYOUTS.items():
        assert get_label_space(layout.label_space).layout == name == layout.name


def test_reading_warns_of_nothing(cholecseg8k):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_frame(cholecseg8k, 9, 5, 6, mask=stripes(50))
        assert len(read_layout(cholecseg8k)) == 8


@pytest.mark.real_data
def test_real_data(real_data):
    rows = read_cholecseg8k(real_data / "cholecseg8k")
    assert [row["frame"] for row in rows] == [*range(80, 110), *range(561, 591)]
    rows = read_endoscapes(real_data / "endoscapes_seg50")
    assert len(rows) == 419
    assert [sum(row["split"] == part for row in rows) for part in ("train", "val")] == [343, 76]
    assert find_layout(real_data, "cholecseg8k")[1].name == "cholecseg8k"
