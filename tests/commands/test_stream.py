"""`python -m lap_monai stream --dry-run` on a phantom, on real frames, and on data that leak."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from command_line import CommandLine
from PIL import Image
from tiny_data import stripes

from lap_monai.data import read_dsad, write_phantom

SHARES = [0.5, 0.25, 0.25]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Four patients, two frames an organ; not to be changed."""
    return write_phantom(tmp_path_factory.mktemp("data") / "dsad", "dsad", videos=4, frames=2, size=(64, 48))


@pytest.fixture
def dry_run(tmp_path, phantom, capsys, monkeypatch):
    """A function that runs a stream of two steps, with some keys of its file changed."""
    monkeypatch.setenv("LAP_MONAI_CACHE", str(tmp_path / "cache"))

    def run(*words, data=phantom, **changes):
        content = {
            "name": "two",
            "label_space": "dsad_11",
            "protocol": "one_organ_per_frame",
            "patients": "shared",
            "split": SHARES,
            "steps": [["liver", "stomach"], ["ureter"]],
        }
        path = tmp_path / "two.yaml"
        path.write_text(yaml.safe_dump(content | changes))
        return CommandLine(tmp_path, data, capsys.readouterr)("stream", path, "--data", data, "--dry-run", *words)

    return run


def test_counts_are_those_of_the_files(dry_run, phantom, tmp_path):
    outcome = dry_run("--json", tmp_path / "plan.json")
    assert outcome.status == 0, outcome.err
    plan = json.loads((tmp_path / "plan.json").read_text())
    rows = read_dsad(phantom)
    for step in plan["steps"]:
        for name, counts in step["train"]["classes"].items():
            if name in step["new"]:
                files = [row for row in rows if row["annotated"] == [name] and row["video"] in plan["split"]["train"]]
                pixels = sum(int((np.asarray(Image.open(*row["label"])) > 0).sum()) for row in files)
                assert (counts["frames"], counts["pixels"]) == (len(files), pixels)
            else:
                assert counts["frames"] == counts["pixels"] == 0
    line = next(line.split() for line in outcome.out.splitlines() if line.split()[:1] == ["ureter"])
    assert line[1] == str(plan["steps"][1]["train"]["classes"]["ureter"]["frames"])
    assert "2 of 2 training patients come back in later steps" in outcome.out
    assert max(len(line) for line in outcome.out.splitlines() if str(tmp_path) not in line) <= 100


def test_weak_labels_are_counted_as_knowledge_of_absence(dry_run, tmp_path):
    def absent(**changes):
        dry_run("--json", tmp_path / "plan.json", **changes)
        plan = json.loads((tmp_path / "plan.json").read_text())
        return plan["steps"][1]["train"]["classes"]["liver"]["absent"]

    assert absent() > 0
    assert absent(weak_labels=False) == 0


def test_patients_of_disjoint_steps_do_not_come_back(dry_run):
    outcome = dry_run(patients="disjoint")
    assert "no patient in two steps" in outcome.out
    assert "patients disjoint (dealt with seed 0)" in outcome.out


def test_the_frames_of_stomach_and_multilabel_are_one_leak(dry_run):
    steps = [["liver", "stomach"], ["colon", "spleen", "abdominal_wall", "small_intestine", "pancreas"]]
    both = {"sources": ["organs", "multilabel"], "steps": steps, "protocol": "overlapped"}
    error = dry_run(**both).error
    assert "_stomach_" in error
    assert "_multilabel_" in error
    assert "show the same picture" in error
    assert "or write `repeated: drop`" in error
    dropped = dry_run(**both, repeated="drop")
    assert dropped.status == 0, dropped.err
    assert "8 frames: dropped" in dropped.out
    assert "_multilabel_" in dropped.out.split("dropped")[1]


def test_a_patient_under_two_numbers_is_a_leak(dry_run, phantom, tmp_path):
    """A patient of the training part whose folder was copied under a number of the test part."""
    data = tmp_path / "copied"
    for organ in ("liver", "stomach", "ureter"):
        shutil.copytree(phantom / organ, data / organ)
    names = {"train": ["01", "02"], "val": ["03"], "test": ["04"]}
    shutil.rmtree(data / "liver" / "04")
    shutil.copytree(data / "liver" / "01", data / "liver" / "04")
    split = tmp_path / "split.json"
    split.write_text(json.dumps(names))
    error = dry_run(data=data, split=str(split)).error
    assert "01_liver_00 (step 0 train) and 04_liver_00 (test) show the same picture (and 1 more pairs)" in error


def test_weak_labels_against_a_mask_are_named(dry_run, phantom, tmp_path):
    data = tmp_path / "copy"
    shutil.copytree(phantom, data)
    table = data / "ureter" / "02" / "weak_labels.csv"
    table.write_text("image,ureter\nimage00,0\nimage01,1\n")
    assert "ureter/02/image00.png: weak labels say that there is no ureter" in dry_run(data=data).error
    assert dry_run(data=data, weak_labels=False).status == 0


def test_a_class_that_nobody_shows_is_named(dry_run, phantom, tmp_path):
    data = tmp_path / "copy"
    shutil.copytree(phantom, data)
    for mask in (data / "ureter").glob("*/mask*.png"):
        Image.fromarray(stripes(0, size=(48, 64))).save(mask)
    for table in (data / "ureter").glob("*/weak_labels.csv"):
        table.unlink()
    assert "step 1 of stream 'two' has no training frame" in dry_run(data=data).error
    assert (
        "no training patient is left to show 'ureter', which nobody shows"
        in dry_run(data=data, patients="disjoint").error
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": [["liver"], ["liver"]]}, "'liver' is named twice"),
        ({"steps": [["gallbladder"]]}, "Unknown class 'gallbladder'"),
        ({"label_space": "endoscapes_7", "steps": [["Tool"]]}, "looks like layout 'dsad'"),
        ({"split": "dsadd"}, "There is no split 'dsadd'. Did you mean 'dsad'"),
    ],
)
def test_bad_input_is_one_line(dry_run, changes, message):
    assert message in dry_run(**changes).error


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["endoscapes_2-2-2", "endoscapes_1x6"])
def test_real_endoscapes_has_patients_for_every_step(real_data, repository, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setenv("LAP_MONAI_CACHE", str(tmp_path / "cache"))
    stream = repository / "configs" / "streams" / f"{name}.yaml"
    run = CommandLine(tmp_path, real_data, capsys.readouterr)
    outcome = run("stream", stream, "--data", real_data / "endoscapes_seg50", "--dry-run")
    assert outcome.status == 0, outcome.err
    assert "no patient in two steps" in outcome.out
