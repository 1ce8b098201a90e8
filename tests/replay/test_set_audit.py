from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import contents
from monai.inferers import SimpleInferer
from monai.networks.nets import BasicUNet
from PIL import Image
from replay_frames import Operations

from lap_monai.checks import UserError
from lap_monai.data import fingerprint, read_layout
from lap_monai.replay import (
    REASONS,
    AuditOutcome,
    CachedFrames,
    SetAudit,
    SyntheticSet,
    Teacher,
    plant_copies,
    read_probabilities,
    replay_rows,
    synthetic_rows,
)

CLASSES = ("a", "b", "c", "d")
SIZE = (48, 80)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    network = BasicUNet(2, 3, len(CLASSES), features=(4, 8, 8, 16, 16, 4)).eval().requires_grad_(False)
    return Teacher(network, SimpleInferer(), (32, 48))


@pytest.fixture(scope="module")
def parts(phantom_operations: Path) -> dict[str, list[dict[str, Any]]]:
    rows = read_layout(phantom_operations)
    names = sorted({row["video"] for row in rows})
    return {
        "training": [row for row in rows if row["video"] in names[:4]],
        "held_out": [row for row in rows if row["video"] in names[4:14]],
    }


@pytest.fixture(scope="module")
def images(operations: Operations) -> dict[str, np.ndarray]:
    """What a generator may draw: frames of patients that it never saw, for want of better, and what must go."""
    copies = plant_copies(operations.training[7], np.random.default_rng(0))
    good = operations.others
    return {
        "good": good,
        "copies": np.stack(list(copies.values())),
        "again": np.stack([(good[0] * 0.95 + 5).astype(np.uint8)]),
        "green": np.stack([good[1][..., [1, 0, 2]] // 2 + np.array([0, 120, 0], np.uint8)]),
    }


def drawn(folder: Path, images: dict[str, np.ndarray]) -> SyntheticSet:
    generator = {"sha256": "ab" * 32, "frame_size": list(SIZE)}
    made = SyntheticSet.create(folder, generator, {"name": "by hand", "steps": 7}, seed=0)
    made.extend(np.concatenate(list(images.values())))
    return made


@pytest.fixture
def synthetic(tmp_path: Path, images: dict[str, np.ndarray]) -> SyntheticSet:
    return drawn(tmp_path / "set", images)


@pytest.fixture(scope="module")
def outcome(
    tmp_path_factory: pytest.TempPathFactory, images: dict[str, np.ndarray], parts: dict[str, Any], teacher: Teacher
) -> tuple[Path, AuditOutcome]:
    """The folder of an audit, with the set in `set/`, and its outcome; not to be changed."""
    folder = tmp_path_factory.mktemp("audited")
    return folder, audited(drawn(folder / "set", images), parts, teacher, folder)


def places(images: dict[str, np.ndarray], name: str) -> range:
    start = sum(len(images[other]) for other in list(images)[: list(images).index(name)])
    return range(start, start + len(images[name]))


def audited(
    synthetic: SyntheticSet, parts: dict[str, Any], teacher: Teacher, tmp_path: Path, **changes: Any
) -> AuditOutcome:
    arguments = parts | {
        "teacher": teacher,
        "classes": CLASSES,
        "output_dir": tmp_path / "out",
        "cache_dir": tmp_path / "cache",
    }
    return SetAudit(synthetic.folder, **arguments | changes).run()


def test_keeps_what_could_be_a_new_patient_and_says_why_the_rest_goes(
    outcome: tuple[Path, AuditOutcome], images: dict[str, np.ndarray]
) -> None:
    found = SyntheticSet.open(outcome[0] / "set")
    assert all("memorised: pixels" in found.images[i].dropped for i in places(images, "copies"))
    assert all("colour or exposure" in found.images[i].dropped for i in places(images, "green"))
    (again,) = places(images, "again")
    # Of the two alike the surer one stays.
    assert sum("near-duplicate" in found.images[i].dropped for i in (0, again)) == 1
    good = [found.images[i] for i in places(images, "good")]
    assert not any("memorised: pixels" in image.dropped for image in good)
    assert sum(not image.dropped for image in good) >= len(good) / 2
    scores = ["pixel_distance", "feature_distance", "colour_distance", "confidence"]
    assert all(sorted(image.scores) == sorted(scores) for image in found.images)

    assert found.audit is not None
    memorisation = found.audit["memorisation"]
    assert set(memorisation["planted_caught"].values()) == {1.0}
    assert memorisation["share"] == memorisation["flagged"] / len(found)
    assert memorisation["flagged"] == sum(any("memorised" in why for why in i.dropped) for i in found.images)
    assert set(found.audit["filters"]) <= set(REASONS)
    for reason, filtered in found.audit["filters"].items():
        assert filtered["dropped"] == sum(reason in image.dropped for image in found.images)
    assert json.loads((outcome[0] / "out" / "audit.json").read_text())["kept"] == len(found.kept)


def test_warns_of_a_set_that_is_unlike_frames_though_no_image_alone_is(
    parts: dict[str, Any], teacher: Teacher, operations: Operations, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    frames = operations.held_out[::3]
    audited(drawn(tmp_path / "frames", {"good": frames}), parts, teacher, tmp_path)
    assert not [told for told in recwarn if "unlike frames" in str(told.message)]
    # Each frame's own pixels, in rows that are out of order: its statistics of colour stay what they were.
    rng = np.random.default_rng(0)
    shuffled = np.stack([frame[rng.permutation(len(frame))] for frame in frames])
    with pytest.warns(UserWarning, match="synthetic images are unlike frames: KID .* train their generator for longer"):
        kept = audited(drawn(tmp_path / "noise", {"noise": shuffled}), parts, teacher, tmp_path).results["kept"]
    assert kept > len(shuffled) / 2


def test_leaves_pictures_for_a_report(
    outcome: tuple[Path, AuditOutcome], images: dict[str, np.ndarray], operations: Operations
) -> None:
    found, left = SyntheticSet.open(outcome[0] / "set"), outcome[1]
    assert [pair.distance for pair in left.neighbours] == sorted(pair.distance for pair in left.neighbours)
    assert all(pair.flagged for pair in left.neighbours[: len(images["copies"])])
    nearest = left.neighbours[0]
    np.testing.assert_array_equal(nearest.pixels, found.read(nearest.image))
    np.testing.assert_array_equal(nearest.frame_pixels, operations.training[7])
    assert {index for index, _ in left.samples} == {image.index for image in found.kept}


def test_labels_lie_beside_the_kept_images_and_nowhere_else(
    outcome: tuple[Path, AuditOutcome], teacher: Teacher
) -> None:
    folder = outcome[0] / "set"
    found = SyntheticSet.open(folder)
    rows = synthetic_rows(folder, accept_unaudited=True)  # a tenth and more of the images are planted copies
    assert [row["frame"] for row in rows] == [image.index for image in found.kept]
    assert len(list((folder / "labels").rglob("*.png"))) == len(rows)
    assert len(list((folder / "probabilities").rglob("*.npz"))) == len(rows)
    assert found.audit is not None
    assert set(found.audit["labels"]["sha256"]) == {str(row["frame"]) for row in rows}
    counted = np.zeros(len(CLASSES), int)
    for row in rows:
        frame = torch.tensor(found.read(row["frame"])).permute(2, 0, 1)[None]
        said = teacher.probabilities(frame)[0]
        ids = np.asarray(Image.open(row["label"]))
        np.testing.assert_array_equal(ids, said.argmax(0).numpy())
        counted += np.bincount(ids.ravel(), minlength=len(CLASSES))
        path = row["label"].replace("/labels/", "/probabilities/").replace(".png", ".npz")
        read = read_probabilities(path, len(CLASSES))
        torch.testing.assert_close(read.sum(0), torch.ones(SIZE))
        assert float((read - said).abs().max()) < 0.01 + float(said.amin(0).max())
    assert list(found.audit["labels"]["pixels"].values()) == counted.tolist()


def test_a_second_run_decides_anew_and_alike(
    outcome: tuple[Path, AuditOutcome],
    synthetic: SyntheticSet,
    parts: dict[str, Any],
    teacher: Teacher,
    tmp_path: Path,
) -> None:
    audited(synthetic, parts, teacher, tmp_path, target_count=5)
    few = SyntheticSet.open(synthetic.folder)
    assert len(few.kept) == 5
    assert any("class balance" in image.dropped for image in few.images)
    audited(synthetic, parts, teacher, tmp_path)
    assert contents(synthetic.folder) == contents(outcome[0] / "set")


def test_what_somebody_else_dropped_stays_dropped(
    synthetic: SyntheticSet, parts: dict[str, Any], teacher: Teacher, tmp_path: Path
) -> None:
    synthetic.drop(3, "a surgeon said so")
    synthetic.save()
    left = audited(synthetic, parts, teacher, tmp_path)
    found = SyntheticSet.open(synthetic.folder)
    assert found.images[3].dropped == ["a surgeon said so"]
    assert found.images[3].scores == {}
    assert left.results["images"] == len(found) - 1


def test_bad_input(synthetic: SyntheticSet, parts: dict[str, Any], teacher: Teacher, tmp_path: Path) -> None:
    before = (synthetic.folder / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"Patient video\d+ is among the training and the held-out"):
        audited(synthetic, parts | {"training": parts["held_out"]}, teacher, tmp_path)
    with pytest.raises(UserError, match="learned from a single frame"):
        audited(synthetic, parts | {"training": parts["training"][:1]}, teacher, tmp_path)
    with pytest.raises(UserError, match="needs 99"):
        audited(synthetic, parts | {"held_out": parts["held_out"][:60]}, teacher, tmp_path)
    with pytest.raises(UserError, match="4 classes apart, the label space has 3"):
        audited(synthetic, parts, teacher, tmp_path, classes=CLASSES[:3])
    assert (synthetic.folder / "manifest.json").read_bytes() == before
    with pytest.raises(UserError, match="no teacher's label"):
        synthetic_rows(unlabelled(synthetic, tmp_path / "other").folder, accept_unaudited=True)
    with pytest.raises(UserError, match="was not audited"):
        synthetic_rows(tmp_path / "other")
    synthetic.generator["frames"] = "of another split"
    synthetic.save()
    with pytest.raises(UserError, match=r"learned from other frames than these \d+: give .* split"):
        audited(synthetic, parts, teacher, tmp_path)
    synthetic.generator["frames"] = fingerprint(parts["training"])
    synthetic.save()
    SetAudit(synthetic.folder, **parts, teacher=teacher, classes=CLASSES, output_dir=tmp_path)


def test_black_frames_are_nobodys(
    outcome: tuple[Path, AuditOutcome],
    images: dict[str, np.ndarray],
    parts: dict[str, Any],
    teacher: Teacher,
    tmp_path: Path,
) -> None:
    """One is as near to the next as a copy: in the null it would set the limit to 0."""
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "black.png")
    with_black = {
        name: [*rows, {**rows[0], "image": str(tmp_path / "black.png"), "label": None, "frame": 999}]
        for name, rows in parts.items()
    }
    found = audited(drawn(tmp_path / "set", images), with_black, teacher, tmp_path).results
    assert found["memorisation"] == outcome[1].results["memorisation"]
    assert found["filters"] == outcome[1].results["filters"]
    with pytest.raises(UserError, match="All of the 1 frames are black"):
        CachedFrames(with_black["training"][-1:], SIZE)


def test_what_is_not_as_the_audit_left_it_is_refused(
    operations: Operations, parts: dict[str, Any], teacher: Teacher, tmp_path: Path
) -> None:
    synthetic = drawn(tmp_path / "set", {"good": operations.others})
    audited(synthetic, parts, teacher, tmp_path)
    rows = synthetic_rows(synthetic.folder)
    assert [row["image"] for row in rows] == [row["image"] for row in replay_rows([synthetic.folder])]

    label = Path(rows[0]["label"])
    before = label.read_bytes()
    Image.new("L", SIZE[::-1]).save(label)
    with pytest.raises(UserError, match="is not the label that the set's audit left; run"):
        synthetic_rows(synthetic.folder)
    label.write_bytes(before)

    image = Path(rows[0]["image"])
    before = image.read_bytes()
    image.write_bytes(Path(rows[1]["image"]).read_bytes())
    for read in (synthetic_rows, lambda folder: replay_rows([folder], accept_unaudited=True)):
        with pytest.raises(UserError, match="is not the image that the manifest names"):
            read(synthetic.folder)
    image.write_bytes(before)

    blind = SyntheticSet.open(synthetic.folder)
    assert blind.audit is not None
    blind.audit["memorisation"]["planted_caught"]["flipped"] = 0.5
    blind.save()
    for read in (synthetic_rows, lambda folder: replay_rows([folder])):
        with pytest.raises(UserError, match=r"of planted copies \(flipped\) it caught 50%"):
            read(synthetic.folder)
    assert replay_rows([synthetic.folder], accept_unaudited=True)

    soft = Path(rows[0]["label"].replace("/labels/", "/probabilities/").replace(".png", ".npz"))
    soft.write_bytes(soft.read_bytes()[:-40])
    with pytest.raises(UserError, match="cannot be read"):
        read_probabilities(soft, len(CLASSES))


def unlabelled(synthetic: SyntheticSet, folder: Path) -> SyntheticSet:
    other = SyntheticSet.create(folder, synthetic.generator, {"name": "by hand"}, seed=1)
    other.extend(synthetic.read(0)[None])
    return other


def test_an_empty_set_is_told(synthetic: SyntheticSet, parts: dict[str, Any], teacher: Teacher, tmp_path: Path) -> None:
    empty = SyntheticSet.create(tmp_path / "empty", synthetic.generator, {"name": "by hand"}, seed=1)
    with pytest.raises(UserError, match="no image to audit"):
        audited(empty, parts, teacher, tmp_path)
    with pytest.raises(UserError, match=r"All images .* are dropped"):
        synthetic_rows(empty.folder, accept_unaudited=True)
