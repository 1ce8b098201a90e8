import json

import numpy as np
import pytest
from PIL import Image
from tiny_data import SIZE, picture, stripes, write_dsad

from lap_monai.checks import UserError
from lap_monai.data import (
    FrameCache,
    apply_split,
    detect_layout,
    read_dsad,
    read_label,
    read_layout,
    row_id,
    scan_layout,
    write_phantom,
)
from lap_monai.data.dsad import MULTILABEL_ORGANS, ORGANS
from lap_monai.data.phantom import dsad_layout
from lap_monai.data.validation import validate
from lap_monai.label_space import get_label_space

SPACE = get_label_space("dsad_11")


@pytest.fixture
def root(tmp_path):
    return write_dsad(
        tmp_path / "dsad",
        {"liver": {"02": 2, "10": 1}, "stomach": {"02": 2}, "ureter": {"10": 11}},
    )


def findings(root):
    return [(finding.severity, finding.kind, finding.where) for finding in scan_layout(root)[3]]


def save(path, mask):
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def test_rows_go_by_patient_folder_and_number(root):
    assert detect_layout(root) == "dsad"
    rows = read_layout(root)
    assert [row_id(row) for row in rows] == [
        *("02_liver_00", "02_liver_01", "02_stomach_00", "02_stomach_01", "02_multilabel_00", "02_multilabel_01"),
        *("10_liver_00", *(f"10_ureter_{i:02d}" for i in range(11))),
    ]
    assert json.loads(json.dumps(rows)) == rows
    assert findings(root) == []
    ureter = rows[-1]
    assert ureter["image"] == str(root / "ureter" / "10" / "image10.png")
    assert ureter["label"] == {str(root / "ureter" / "10" / "mask10.png"): SPACE.classes.index("ureter")}
    assert (ureter["video"], ureter["clip"], ureter["frame"]) == ("10", "ureter/10", 10)
    assert ureter["annotated"] == ["ureter"]
    assert ureter["presence"] == {"liver": True, "spleen": True, "ureter": True, "stomach": False}


def test_by_default_the_organs_are_read_and_multilabel_on_demand(root):
    assert {row["source"] for row in read_dsad(root)} == {"organs"}
    rows = read_dsad(root, ["multilabel"])
    assert [row["annotated"] for row in rows] == [sorted(MULTILABEL_ORGANS)] * 2
    assert sorted(rows[0]["label"].values()) == [SPACE.classes.index("liver"), SPACE.classes.index("stomach")]
    assert len(read_dsad(root, ["organs", "multilabel"])) == len(read_layout(root))
    with pytest.raises(UserError, match="Did you mean 'organs'"):
        read_dsad(root, ["organ"])


def test_the_official_split_compares_whole_folder_names(root):
    folder = root / "liver" / "002"  # no patient 02 of the split, though its name contains it
    (root / "liver" / "10").rename(folder)
    with pytest.raises(UserError, match="no video of part 'val'"):
        apply_split(read_dsad(root), "dsad")
    write_dsad(root, {"spleen": {"03": 1, "01": 1}})
    with pytest.warns(UserWarning, match="lacks"):
        parts = apply_split(read_dsad(root), "dsad")
    assert {part: {row["video"] for row in rows} for part, rows in parts.items()} == {
        "train": {"01", "10"},
        "val": {"03"},
        "test": {"02"},
    }


def test_masks_of_raters_replace_the_final_ones(root):
    for folder in (root / "liver").iterdir():
        (folder / "anno_2").mkdir()
        for mask in folder.glob("mask*.png"):
            save(folder / "anno_2" / mask.name, stripes(0, 0, 1, 1) > 0)
    with pytest.raises(UserError, match=r"anno_2/mask00\.png' does not exist; take the final masks"):
        read_dsad(root, rater="anno_2")
    for folder in ("stomach", "ureter"):
        for path in sorted((root / folder).rglob("mask*.png")):
            path.unlink()
            path.with_name(path.name.replace("mask", "image")).unlink()
    rows = read_dsad(root, rater="anno_2")
    assert all(next(iter(row["label"])).endswith("anno_2/mask00.png") for row in rows if row["frame"] == 0)
    with pytest.raises(UserError, match="Did you mean 'anno_2'"):
        read_dsad(root, rater="anno2")


def test_a_label_of_several_files_is_one_map(root):
    row = read_dsad(root, ["multilabel"])[0]
    ids = SPACE.encode(np.asarray(read_label(row["label"], SIZE[::-1])))
    stomach, liver = SPACE.classes.index("stomach"), SPACE.classes.index("liver")
    np.testing.assert_array_equal(ids, stripes(0, stomach, liver, 0))
    assert not np.asarray(read_label({}, SIZE[::-1])).any()


def test_pixels_that_two_masks_claim_are_ignored(root):
    save(root / "multilabel" / "02" / "mask00_liver.png", stripes(0, 1, 1, 0) > 0)
    ids = np.asarray(read_label(read_dsad(root, ["multilabel"])[0]["label"], SIZE[::-1]))
    np.testing.assert_array_equal(SPACE.encode(ids), stripes(0, 255, SPACE.classes.index("liver"), 0))
    (finding,) = [finding for finding in validate(root, progress=False).findings if "overlap" in finding.kind]
    assert "192 px" in finding.message


def test_a_cache_holds_them_and_notices_a_changed_mask(root, tmp_path):
    rows = read_layout(root)
    cache = FrameCache.build(rows, None, tmp_path / "cache", progress=False)
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(cache.mask(i), np.asarray(read_label(row["label"], SIZE[::-1])))
        assert cache.histograms[i].sum() == SIZE[0] * SIZE[1]
    save(root / "multilabel" / "02" / "mask01_spleen.png", stripes(1, 0, 0, 0) > 0)
    again = FrameCache.build(read_layout(root), None, tmp_path / "cache", progress=False)
    assert again.folder != cache.folder
    save(root / "liver" / "02" / "mask00.png", np.zeros((8, 8)))
    with pytest.raises(UserError, match=r"mask00\.png' is 8x8, its frame 32x24"):
        FrameCache.build(read_layout(root), None, tmp_path / "cache", progress=False)


def test_half_a_pair_is_named(root):
    (root / "liver" / "02" / "mask01.png").unlink()
    (root / "ureter" / "10" / "image03.png").unlink()
    assert findings(root) == [
        ("error", "missing mask", "liver/02/mask01.png"),
        ("error", "missing frame", "ureter/10/mask03.png"),
    ]
    with pytest.raises(UserError, match=r"liver/02/mask01\.png: missing.*and 1 more"):
        read_layout(root)


def test_odd_files_are_left_out_and_named(root):
    Image.fromarray(picture(1)).save(root / "multilabel" / "02" / "mask00_gallbladder.png")
    Image.fromarray(picture(1)).save(root / "liver" / "02" / "mask00_liver.png")
    (root / "liver" / "02" / "notes.txt").write_text("")
    (root / "liver" / "11").mkdir()
    (root / "gallbladder" / "02").mkdir(parents=True)
    assert findings(root) == [
        ("warning", "unknown mask", "liver/02/mask00_liver.png"),
        ("warning", "unknown mask", "multilabel/02/mask00_gallbladder.png"),
        ("warning", "empty folder", "liver/11"),
    ]
    assert len(read_layout(root)) == 18


def test_a_mask_of_grey_values_is_no_binary_mask(root):
    Image.fromarray(stripes(0, 255, 7, 7)).save(root / "liver" / "02" / "mask00.png")
    (finding,) = validate(root, progress=False).errors
    assert (finding.kind, finding.where) == ("unknown mask value", "liver/02/mask00.png")
    assert "7 (384 px)" in finding.message


# --- weak labels ---------------------------------------------------------------------------------------------------

TABLES = {
    "other order": "ureter,Spleen,uterus,image\n0,1,1,image01.png\n1,0,1,image00.png\n",
    "numbers": "frame,spleen,ureter\n1,1,0\n0,0,1\n",
    "in the order of the frames": "spleen,ureter\n0,1\n1,0\n",
    "a twelfth structure that looks like frame numbers": "spleen,uterus,ureter\n0,1,1\n1,0,0\n",
    "other words": "\ufeffname,Spleen,Ureter\nimage00,False,TRUE\nimage01,1.0,0.0\n",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_weak_labels_are_read_by_name(root, table):
    (root / "liver" / "02" / "weak_labels.csv").write_text(table, encoding="utf-8")
    presence = {row_id(row): row["presence"] for row in read_layout(root)}
    assert presence["02_liver_00"] == {"spleen": False, "ureter": True}
    assert presence["02_liver_01"] == {"spleen": True, "ureter": False}
    assert findings(root) == []


def test_without_a_table_nothing_is_said(root):
    (root / "liver" / "02" / "weak_labels.csv").unlink()
    assert read_layout(root)[0]["presence"] == {}


DAMAGED = {
    "": "no table",
    "image,uterus\nimage00,1\nimage01,0\n": "no column of an organ",
    "image,liver,liver\nimage00,1,1\nimage01,0,0\n": "two columns liver",
    "image,liver\nimage00\nimage01,0\n": "line 2 has not 2 fields",
    "image,liver\nimage00,maybe\nimage01,0\n": "line 2, liver: 'maybe' is neither 0 nor 1",
    "image,liver\nimage00,1\n": "1 lines that name no frames, for 2 frames",
    "image,liver\nimage00,1\nimage00,0\nimage01,0\n": "3 lines that name no frames",
}


@pytest.mark.parametrize(("table", "message"), DAMAGED.items(), ids=DAMAGED.values())
def test_a_damaged_table_is_refused_by_name(root, table, message):
    (root / "liver" / "02" / "weak_labels.csv").write_text(table)
    with pytest.raises(UserError, match=rf"liver/02/weak_labels\.csv: .*{message}"):
        read_layout(root)


def test_a_table_of_no_text_is_refused_by_name(root):
    (root / "liver" / "02" / "weak_labels.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UserError, match=r"liver/02/weak_labels\.csv: is no table"):
        read_layout(root)


def test_weak_labels_against_masks_are_named(root):
    table = root / "liver" / "02" / "weak_labels.csv"
    table.write_text("image,liver,ureter\nimage00,0,0\nimage01,1,1\n")
    save(root / "liver" / "02" / "mask01.png", stripes(0, 0) > 0)
    found = [finding for finding in validate(root, progress=False).findings if "weak" in finding.kind]
    assert [(finding.severity, finding.where) for finding in found] == [
        ("error", "liver/02/image00.png"),
        ("warning", "liver/02/image01.png"),
    ]
    assert "there is no liver, its mask has 384 px" in found[0].message
    # That nobody drew the ureter, which is there, contradicts nothing.
    assert "ureter" not in " ".join(str(finding) for finding in found)


# --- the phantom ---------------------------------------------------------------------------------------------------


def test_the_phantom_is_laid_out_as_the_reader_expects(tmp_path):
    assert dsad_layout.ORGANS == ORGANS
    assert dsad_layout.MULTILABEL_ORGANS == MULTILABEL_ORGANS
    root = write_phantom(tmp_path / "phantom", "dsad", videos=2, frames=2, size=(64, 48))
    result = validate(root, progress=False)
    assert result.sound
    assert not [finding for finding in result.findings if "weak" in finding.kind]
    # The check sees the frames that two folders share.
    assert sum(finding.kind == "duplicate" for finding in result.findings) == 2
    rows = read_dsad(root)
    assert len(rows) == 2 * 11 * 2
    assert {frozenset(row["presence"]) for row in rows} == {frozenset(ORGANS)}
    raters = read_dsad(root, rater="merged")
    assert [set(row["label"].values()) for row in raters] == [set(row["label"].values()) for row in rows]
    assert not any(set(row["label"]) & set(other["label"]) for row, other in zip(rows, raters, strict=True))
