import json
from collections import Counter

import pytest

from lap_monai.checks import UserError
from lap_monai.data import (
    PARTS,
    Split,
    apply_split,
    folder_split,
    kfold_by_video,
    load_split,
    split_by_video,
    write_split,
)

CHOLECSEG8K = {f"video{i:02d}" for i in (1, 9, 12, 17, 18, 20, 24, 25, 26, 27, 28, 35, 37, 43, 48, 52, 55)}


def rows_of(*videos, frames=2):
    return [{"video": video, "clip": f"{video}_0", "frame": i, "label": "m"} for video in videos for i in range(frames)]


@pytest.fixture(scope="module")
def seventeen():
    return rows_of(*sorted(CHOLECSEG8K))


def test_every_committed_split_is_valid_and_has_an_origin(repository):
    files = sorted((repository / "configs" / "splits").glob("*.json"))
    assert {file.stem for file in files} >= {"zhang_1", "zhang_2", "zhang_3", "endovit", "endoscapes"}
    for file in files:
        split = load_split(file.stem)
        assert split == load_split(file)
        assert split.name == file.stem
        assert len(split.origin) > 20
        assert split.train
        assert split.val


@pytest.mark.parametrize("name", ["zhang_1", "zhang_2", "zhang_3"])
def test_zhang_tests_videos_12_and_52_and_uses_all_others(name):
    split = load_split(name)
    assert split.test == ("video12", "video52")
    assert {video for part in PARTS for video in split.videos(part)} == CHOLECSEG8K
    # Outside the test part only video01 is known to show Connective Tissue, one of the 8 classes.
    assert "video01" in split.train


def test_zhang_draws_validate_different_videos():
    counts = Counter(video for i in (1, 2, 3) for video in load_split(f"zhang_{i}").val)
    assert set(counts.values()) == {1}


def test_endovit_split_is_the_published_one():
    split = load_split("endovit")
    assert (split.val, split.test) == (("video17", "video52"), ("video12", "video27"))
    assert set(split.train) == CHOLECSEG8K - set(split.val) - set(split.test)


def test_applying_sorts_rows_and_leaves_strangers_out():
    split = Split("s", "test", train=("a", "b"), val=("c",), test=())
    rows = rows_of("c", "a", "b", "x")
    parts = apply_split(rows, split)
    assert {part: [row["video"] for row in parts[part]] for part in PARTS} == {
        "train": ["a", "a", "b", "b"],
        "val": ["c", "c"],
        "test": [],
    }
    assert {row["split"] for row in parts["train"]} == {"train"}
    assert "split" not in rows[0]


def test_a_part_without_any_video_is_an_error_that_names_them():
    split = Split("s", "test", train=("a",), val=("b", "c"), test=())
    with pytest.raises(UserError, match=r"part 'val' \(b, c\).*holds a"):
        apply_split(rows_of("a"), split)


def test_a_part_with_some_videos_missing_is_a_warning_that_names_them():
    split = Split("s", "test", train=("a", "d"), val=("b", "c"), test=())
    with pytest.warns(UserWarning, match="lacks d, c"):
        parts = apply_split(rows_of("a", "b"), split)
    assert len(parts["train"]) == len(parts["val"]) == 2


def test_a_video_in_two_parts_is_refused():
    with pytest.raises(UserError, match="video b occurs twice"):
        Split("s", "test", train=("a", "b"), val=("b",), test=())


def test_files_round_trip(tmp_path):
    split = Split("s", "test", train=("a",), val=("b",), test=("c",))
    assert load_split(write_split(tmp_path / "s.json", split)) == split
    assert [row["video"] for row in apply_split(rows_of("a", "b", "c"), tmp_path / "s.json")["test"]] == ["c", "c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold lists of video names"),
        (json.dumps({"train": ["a"], "val": ["b"]}), "must hold lists of video names"),
        (json.dumps({"train": "a", "val": ["b"], "test": []}), "must hold lists of video names"),
        (json.dumps({"train": [1], "val": ["b"], "test": []}), "must hold lists of video names"),
        (json.dumps({"train": ["a"], "val": ["a"], "test": []}), "occurs twice"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load_split(tmp_path / "s.json")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'endovit'"):
        load_split("endovid")
    with pytest.raises(UserError, match="There is no split"):
        load_split("/nowhere/s.json")


def test_folders_make_a_split():
    rows = [{**row, "split": "train" if row["video"] in "ab" else "val"} for row in rows_of("b", "a", "c")]
    split = folder_split(rows)
    assert (split.train, split.val, split.test) == (("a", "b"), ("c",), ())
    with pytest.raises(UserError, match="video a occurs twice"):
        folder_split([*rows, {"video": "a", "split": "val"}])
    with pytest.raises(UserError, match="make no split"):
        folder_split(rows_of("a"))


@pytest.mark.parametrize("k", [3, 5, 17])
def test_kfold_tests_and_validates_each_video_once(seventeen, k):
    splits = kfold_by_video(seventeen, k, seed=4)
    assert len({split.name for split in splits}) == k
    for part in ("val", "test"):
        assert sorted(video for split in splits for video in split.videos(part)) == sorted(CHOLECSEG8K)
        assert max(len(s.videos(part)) for s in splits) - min(len(s.videos(part)) for s in splits) <= 1
    for split in splits:
        assert {video for part in PARTS for video in split.videos(part)} == CHOLECSEG8K


def test_kfold_depends_on_the_seed_not_on_the_order(seventeen):
    assert kfold_by_video(seventeen, 5, 1) == kfold_by_video(seventeen[::-1], 5, 1)
    assert kfold_by_video(seventeen, 5, 1) != kfold_by_video(seventeen, 5, 2)
    for k in (2, 18):
        with pytest.raises(UserError, match="3 <= k <= 17"):
            kfold_by_video(seventeen, k, 0)


@pytest.mark.parametrize(
    ("videos", "fractions", "counts"),
    [
        (10, (0.7, 0.15, 0.15), (7, 2, 1)),
        (3, (0.9, 0.05, 0.05), (1, 1, 1)),
        (20, (0.5, 0.5, 0.0), (10, 10, 0)),
        (6, (0.6, 0.2, 0.2), (4, 1, 1)),
    ],
)
def test_drawn_splits_have_their_shares(videos, fractions, counts):
    rows = rows_of(*(f"v{i}" for i in range(videos)))
    split = split_by_video(rows, fractions, seed=3)
    assert sum(len(split.videos(part)) for part in PARTS) == videos
    got = tuple(len(split.videos(part)) for part in PARTS)
    assert got[0] == counts[0]
    assert sorted(got[1:]) == sorted(counts[1:])
    assert split == split_by_video(rows[::-1], fractions, seed=3)


def test_drawn_splits_refuse_what_cannot_be():
    with pytest.raises(UserError, match="2 videos cannot fill 3 parts"):
        split_by_video(rows_of("a", "b"))
    for fractions in ((0.5, 0.5), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)):
        with pytest.raises(UserError, match="three shares"):
            split_by_video(rows_of("a", "b", "c"), fractions)
