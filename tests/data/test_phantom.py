"""The phantom: exact layouts, full determinism, and a surgery that holds together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lap_monai.__main__ import main
from lap_monai.checks import UserError
from lap_monai.data import read_cholecseg8k, read_phase_file
from lap_monai.data.phantom import PHANTOM_VERSION, render_frame, write_phantom
from lap_monai.data.phases import PHASES
from lap_monai.label_space import get_label_space

SPACE = get_label_space("cholecseg8k_13")
ZHANG = get_label_space("cholecseg8k_zhang8")
RAW = {SPACE.classes[index]: value for value, index in SPACE.values.items()}
SIZE = (96, 64)
ORGANS = get_label_space("dsad_11").classes[1:]


def read(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def digest(root: Path) -> dict[str, str]:
    """Every file below a folder and the hash of its bytes."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def surgery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients, fourteen clips of one frame each."""
    folder = tmp_path_factory.mktemp("phantom") / "surgery"
    return write_phantom(folder, videos=6, frames=14, clips=14, size=SIZE, workers=1)


@pytest.fixture(scope="module")
def dresden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two surgeries, three frames of each structure."""
    return write_phantom(
        tmp_path_factory.mktemp("phantom") / "dresden", "dsad", videos=2, frames=3, size=SIZE, workers=1
    )


class TestCholecSeg8kLayout:
    def test_four_rgb_files_per_frame_in_folders_named_after_the_first_frame(self, surgery: Path) -> None:
        clips = sorted(surgery.glob("video*/video*"))
        assert len(clips) == 6 * 14
        for clip in clips[:5]:
            video, start = clip.name.split("_")
            assert clip.parent.name == video
            assert len(start) == 5
            number = int(start)
            endings = ("", "_mask", "_color_mask", "_watershed_mask")
            assert {path.name for path in clip.iterdir()} == {f"frame_{number}_endo{ending}.png" for ending in endings}
            for path in clip.iterdir():
                with Image.open(path) as image:
                    assert (image.mode, image.size) == ("RGB", SIZE)

    def test_frames_of_a_clip_are_consecutive(self, tmp_path: Path) -> None:
        rows = read_cholecseg8k(write_phantom(tmp_path / "out", videos=1, frames=7, clips=2, size=(48, 32)))
        by_clip: dict[str, list[int]] = {}
        for row in rows:
            by_clip.setdefault(row["clip"], []).append(row["frame"])
        assert sorted(len(frames) for frames in by_clip.values()) == [3, 4]
        for clip, frames in by_clip.items():
            assert frames == list(range(int(clip[-5:]), int(clip[-5:]) + len(frames)))

    def test_masks_hold_defined_values_inside_a_white_border_of_one_pixel(self, surgery: Path) -> None:
        for row in read_cholecseg8k(surgery)[::5]:
            mask = read(row["label"])
            assert (mask == mask[..., :1]).all()
            inner = mask[1:-1, 1:-1, 0]
            assert set(np.unique(inner)) <= set(SPACE.values)
            border = mask[..., 0].copy()
            border[1:-1, 1:-1] = 255
            assert (border == 255).all()

    def test_colour_mask_shows_the_same_classes_in_the_published_colours(self, surgery: Path) -> None:
        for row in read_cholecseg8k(surgery)[::7]:
            raw = read(row["label"])[..., 0]
            colour = read(row["label"].replace("_watershed_", "_color_"))
            assert (colour[raw == 255] == 255).all()
            for value, index in SPACE.values.items():
                assert (colour[raw == value] == SPACE.colours[index]).all()

    def test_annotation_strokes_mark_some_pixels_with_their_class_and_leave_the_rest_zero(self, surgery: Path) -> None:
        row = read_cholecseg8k(surgery)[0]
        raw, strokes = read(row["label"])[1:-1, 1:-1, 0], read(row["label"].replace("_watershed_", "_"))[1:-1, 1:-1, 0]
        marked = strokes > 0
        assert 0 < marked.mean() < 0.8
        assert (strokes[marked] == raw[marked]).all()

    def test_phase_file_has_a_row_per_frame_at_25_fps_and_rows_get_their_phase(self, surgery: Path) -> None:
        rows = read_cholecseg8k(surgery)
        for video in {row["video"] for row in rows}:
            path = surgery / "phase_annotations" / f"{video}-phase.txt"
            lines = path.read_text().splitlines()
            assert lines[0] == "Frame\tPhase"
            assert [int(line.split("\t")[0]) for line in lines[1:]] == list(range(len(lines) - 1))
            assert {line.split("\t")[1] for line in lines[1:]} == set(PHASES)
            for row in rows:
                if row["video"] == video:
                    assert row["phase"] == lines[1 + row["frame"]].split("\t")[1]

    def test_no_clip_crosses_from_one_phase_to_the_next(self, tmp_path: Path) -> None:
        out = write_phantom(tmp_path / "out", videos=2, frames=160, clips=2, size=(32, 32))
        rows = read_cholecseg8k(out)
        tables = {
            row["video"]: read_phase_file(out / f"phase_annotations/{row['video']}-phase.txt") for row in rows[::80]
        }
        phases: dict[str, set[str]] = {}
        for row in rows:
            phases.setdefault(row["clip"], set()).add(str(tables[row["video"]].at(row["frame"])))
        assert [len(found) for found in phases.values()] == [1] * 4

    def test_phantom_json_names_what_determines_the_set(self, surgery: Path) -> None:
        record = json.loads((surgery / "phantom.json").read_text())
        assert record["phantom_version"] == PHANTOM_VERSION
        assert (record["seed"], record["size"], record["videos"], record["frames"]) == (0, list(SIZE), 6, 84)


class TestDeterminism:
    def test_every_byte_is_the_same_for_any_number_of_workers(self, tmp_path: Path) -> None:
        arguments = {"videos": 3, "frames": 2, "size": (48, 32), "seed": 4}
        one = digest(write_phantom(tmp_path / "one", workers=1, **arguments))
        assert one == digest(write_phantom(tmp_path / "many", workers=3, **arguments))
        assert one != digest(write_phantom(tmp_path / "other", workers=1, **{**arguments, "seed": 5}))

    def test_more_videos_leave_the_earlier_patients_as_they_were(self, tmp_path: Path) -> None:
        few = write_phantom(tmp_path / "few", videos=1, frames=2, size=(48, 32))
        many = write_phantom(tmp_path / "many", videos=2, frames=2, size=(48, 32))
        assert digest(few / "video01") == digest(many / "video01")

    @pytest.mark.parametrize("size", [(96, 64), (101, 333)])
    def test_render_frame_is_what_the_files_hold(self, tmp_path: Path, size: tuple[int, int]) -> None:
        rows = read_cholecseg8k(write_phantom(tmp_path / "out", videos=2, frames=4, clips=2, size=size, seed=3))
        row = [row for row in rows if row["video"] == "video02"][3]
        picture, labels = render_frame(video=1, clip=1, frame=1, size=size, seed=3, frames=4, clips=2)
        assert (read(row["image"]) == picture).all()
        raw = read(row["label"])[1:-1, 1:-1, 0]
        assert (SPACE.encode(raw) == labels[1:-1, 1:-1]).all()


class TestSurgery:
    def test_every_class_of_the_paper_is_in_most_videos_and_the_rarest_is_rare(self, surgery: Path) -> None:
        rows = read_cholecseg8k(surgery)
        ids = [ZHANG.encode(read(row["label"])[..., 0]) for row in rows]
        videos = sorted({row["video"] for row in rows})
        for index, name in enumerate(ZHANG.classes):
            having = {row["video"] for row, mask in zip(rows, ids, strict=True) if (mask == index).any()}
            assert len(having) >= 0.8 * len(videos), name
        pixels = np.bincount(np.concatenate([mask.ravel() for mask in ids]), minlength=256)[: ZHANG.num_classes]
        assert 40 < pixels.max() / pixels.min() < 400

    def test_phases_decide_what_is_present(self, surgery: Path) -> None:
        for row in read_cholecseg8k(surgery):
            present = set(np.unique(read(row["label"])[..., 0]).tolist())
            if row["phase"] not in ("CalotTriangleDissection", "GallbladderDissection"):
                assert RAW["L-hook Electrocautery"] not in present, row
            if row["phase"] in ("CleaningCoagulation", "GallbladderRetraction"):
                assert RAW["Gallbladder"] not in present, row
            if row["phase"] == "Preparation":
                assert not {RAW["Blood"], RAW["Connective Tissue"], RAW["Cystic Duct"]} & present, row

    def test_frames_move_and_move_continuously(self) -> None:
        def changed(a: tuple[int, int], b: tuple[int, int]) -> float:
            first, second = (render_frame(2, *place, size=SIZE, frames=40, clips=5)[1] for place in (a, b))
            return float((first != second).mean())

        assert 0 < changed((1, 0), (1, 1)) < 0.05
        assert changed((1, 0), (1, 1)) < changed((1, 0), (1, 7))
        assert changed((1, 0), (3, 0)) > 3 * changed((1, 0), (1, 1))

    def test_outside_the_scope_it_is_black(self) -> None:
        for video in range(3):
            picture, labels = render_frame(video, size=SIZE)
            assert picture[labels == 0].mean() < 12
            assert picture[labels != 0].mean() > 40

    def test_each_patient_has_colours_of_their_own(self) -> None:
        livers = []
        for video in range(5):
            per_clip = []
            for clip in (0, 2):
                picture, labels = render_frame(video, clip, size=SIZE)
                colour = picture[labels == SPACE.classes.index("Liver")].mean(0)
                per_clip.append(colour / colour.sum())
            livers.append(per_clip)
        chroma = np.array(livers)
        within = np.abs(chroma[:, 0] - chroma[:, 1]).mean()
        assert chroma.mean(1).std(0).mean() > within / 2

    @pytest.mark.parametrize("size", [(854, 480), (427, 240), (64, 64), (33, 100)])
    def test_any_size_shows_the_same_view(self, size: tuple[int, int]) -> None:
        picture, labels = render_frame(size=size)
        assert picture.shape == (size[1], size[0], 3)
        assert labels.shape == (size[1], size[0])
        reference = render_frame(size=(427, 240))[1]
        # the middle of the picture, as high as wide, holds the same in all
        rows = (np.linspace(0.3, 0.7, 9) * size[1]).astype(int)
        columns = ((np.linspace(-0.1, 0.1, 9) * size[1]) + size[0] / 2).astype(int)
        expected = reference[(np.linspace(0.3, 0.7, 9) * 240).astype(int)][
            :, (np.linspace(-0.1, 0.1, 9) * 240 + 427 / 2).astype(int)
        ]
        assert (labels[rows][:, columns] == expected).mean() > 0.8


class TestDsadLayout:
    def test_folders_and_files(self, dresden: Path) -> None:
        assert sorted(path.name for path in dresden.iterdir() if path.is_dir()) == sorted([*ORGANS, "multilabel"])
        for organ in ORGANS:
            for surgery in ("01", "02"):
                folder = dresden / organ / surgery
                names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
                masks = {f"mask{i:02d}.png" for i in range(3)}
                parts = {f"{part}/{mask}" for part in ("anno_1", "anno_2", "anno_3", "merged") for mask in masks}
                assert names == {f"image{i:02d}.png" for i in range(3)} | masks | parts | {"weak_labels.csv"}

    def test_masks_are_black_and_white_and_mostly_show_their_structure(self, dresden: Path) -> None:
        for organ in ORGANS:
            masks = [read(path) for path in sorted((dresden / organ).glob("*/mask*.png"))]
            assert len(masks) == 6
            assert all(set(np.unique(mask)) <= {0, 255} and mask.shape == SIZE[::-1] for mask in masks)
            assert sum(mask.any() for mask in masks) >= 5, organ

    def test_merged_is_what_two_of_three_raters_drew(self, dresden: Path) -> None:
        folder = dresden / "liver" / "01"
        raters = [read(folder / f"anno_{k}" / "mask01.png") > 0 for k in (1, 2, 3)]
        merged = read(folder / "merged" / "mask01.png") > 0
        assert (merged == (np.sum(raters, axis=0) >= 2)).all()
        final = read(folder / "mask01.png") > 0
        assert all((final & rater).sum() > 0.7 * final.sum() for rater in raters)

    def test_multilabel_shares_the_frames_of_stomach(self, dresden: Path) -> None:
        for surgery in ("01", "02"):
            shared = sorted((dresden / "multilabel" / surgery).glob("image*.png"))
            assert len(shared) == 3
            for image in shared:
                assert image.read_bytes() == (dresden / "stomach" / surgery / image.name).read_bytes()
                frame = image.stem.removeprefix("image")
                whole = read(dresden / "stomach" / surgery / f"mask{frame}.png")
                part = dresden / "multilabel" / surgery / f"mask{frame}_stomach.png"
                assert (read(part) == whole).all() if part.exists() else not whole.any()

    def test_weak_labels_say_what_is_visible(self, dresden: Path) -> None:
        for surgery in ("01", "02"):
            lines = (dresden / "stomach" / surgery / "weak_labels.csv").read_text().splitlines()
            assert lines[0].split(",") == ["image", *ORGANS]
            for line in lines[1:]:
                image, *flags = line.split(",")
                seen = {organ for organ, flag in zip(ORGANS, flags, strict=True) if flag == "1"}
                frame = image.removeprefix("image")
                masks = (dresden / "multilabel" / surgery).glob(f"mask{frame}_*.png")
                annotated = {path.stem.split("_", 1)[1] for path in masks}
                assert annotated == seen & {
                    *("abdominal_wall", "colon", "liver", "pancreas", "small_intestine", "spleen", "stomach")
                }


class TestErrors:
    def test_a_folder_that_holds_something_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "note.txt").write_text("mine")
        with pytest.raises(UserError, match="not empty"):
            write_phantom(tmp_path, videos=1, frames=1)
        assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]

    def test_an_empty_folder_is_used(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        assert read_cholecseg8k(write_phantom(tmp_path / "out", videos=1, frames=1, size=(32, 32)))

    def test_a_failure_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match="No space left"):
            write_phantom(tmp_path / "out", videos=2, frames=2, size=(32, 32), workers=2)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"layout": "dsda"}, "Did you mean 'dsad'"),
            ({"videos": 0}, "videos=0"),
            ({"frames": 3, "clips": 4}, "clips=4"),
            ({"size": (16, 480)}, "16x480"),
            ({"seed": -1}, "seed=-1"),
        ],
    )
    def test_senseless_arguments_are_named(self, tmp_path: Path, arguments: dict[str, object], words: str) -> None:
        with pytest.raises(UserError, match=words):
            write_phantom(tmp_path / "out", **arguments)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()


class TestCommand:
    def test_says_what_was_written_and_what_is_next(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "set"
        assert main(["phantom", str(out), "--videos", "2", "--frames", "3", "--clips", "1", "--size", "48x32"]) == 0
        said = capsys.readouterr().out
        assert "6 frames of 2 patients, 48x32" in said
        assert f"next: python -m lap_monai check {out}" in said
        assert len(list(out.glob("video*/*/*_endo.png"))) == 6

    def test_an_error_is_one_line_and_status_1(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "note.txt").write_text("mine")
        assert main(["phantom", str(tmp_path)]) == 1
        assert capsys.readouterr().err.startswith("error: ")

    def test_a_size_of_another_form_is_explained(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["phantom", str(tmp_path / "out"), "--size", "854*480"])
        assert "854x480" in capsys.readouterr().err
