"""Streams over made-up data sets: which frame serves which step, what its labels may say, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_data import picture

from lap_monai.checks import UserError
from lap_monai.data import FrameCache, StepDataset, Stream, open_stream, plan_stream, read_mask
from lap_monai.data.duplicates import FrameSignature, sign_frame
from lap_monai.data.stream_plan import StreamPlan
from lap_monai.data.streams import PROTOCOLS
from lap_monai.label_space import LabelSpace, get_label_space
from lap_monai.task_stream import Knowledge

SPACE = LabelSpace("toy", "dsad", ("bg", "a", "b", "c", "d"), ((0, 0, 0),) * 5, {i: i for i in range(5)}, (255,), "")
UNKNOWN, ABSENT, MASK = Knowledge.UNKNOWN, Knowledge.ABSENT, Knowledge.MASK

#: Nearly orthogonal thumbnails, so that no two made-up frames look alike.
THUMBNAILS = np.linalg.qr(np.random.default_rng(0).normal(size=(1024, 50)))[0].astype(np.float32).T


def sign(number: int) -> FrameSignature:
    bits = int(np.random.default_rng(number).integers(0, 2**63))
    return FrameSignature(number.to_bytes(4, "big"), bits, THUMBNAILS[number])


class Frames:
    """A data set of frames, each of a patient (v… validates, t… tests) and with the classes that its mask shows."""

    def __init__(self, *shown: tuple[str, str], annotated: bool = False) -> None:
        self.rows = [
            {
                "image": f"{i}.png",
                "label": f"{i}_mask.png",
                "video": patient,
                "clip": patient,
                "frame": i,
                "phase": None,
                "split": {"v": "val", "t": "test"}.get(patient[0], "train"),
                **({"annotated": list(classes)} if annotated else {}),
            }
            for i, (patient, classes) in enumerate(shown)
        ]
        self.pixels = np.array(
            [[100] + [10 * i * (name in classes) for i, name in enumerate(SPACE.classes) if i] for _, classes in shown]
        )
        self.pictures = list(range(len(shown)))

    def plan(self, groups: str = "ab cd", protocol: str = "overlapped", **more: object) -> StreamPlan:
        options = {"patients": "shared", **more}
        stream = Stream("toy", SPACE, tuple(tuple(group) for group in groups.split()), protocol, **options)
        return plan_stream(stream, self.rows, self.pixels, [sign(number) for number in self.pictures])


REST = (("v1", "abcd"), ("t1", "abcd"), ("t2", "ac"))


def trained(plan: StreamPlan) -> list[list[int]]:
    return [[row["frame"] for row in step.train.rows] for step in plan.steps]


def known(plan: StreamPlan, step: int, frame: int) -> list[int]:
    (row,) = [row for row in plan.steps[step].train.rows if row["frame"] == frame]
    return row["knowledge"]


FRAMES = (("10", "a"), ("10", "ac"), ("11", "cd"), ("11", "bc"), ("12", "b"), ("12", ""), ("12", "d"))


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("sequential", [[0, 4], [1, 2, 3, 6]]),
        ("disjoint", [[0, 4], [1, 2, 3, 6]]),
        ("overlapped", [[0, 1, 3, 4], [1, 2, 3, 6]]),
    ],
)
def test_the_protocol_says_which_frames_a_step_gets(protocol, expected):
    assert trained(Frames(*FRAMES, *REST).plan(protocol=protocol)) == expected


def test_the_protocol_says_what_is_drawn():
    frames = Frames(*FRAMES, *REST)
    # Frame 1 shows a and c; a is old by step 1. Future classes are hidden in step 0, where frame 1 shows c.
    assert known(frames.plan(protocol="sequential"), 1, 1) == [MASK] * 5
    assert known(frames.plan(protocol="disjoint"), 1, 1) == [UNKNOWN, UNKNOWN, UNKNOWN, MASK, MASK]
    assert known(frames.plan(protocol="overlapped"), 0, 1) == [UNKNOWN, MASK, MASK, UNKNOWN, UNKNOWN]
    assert known(frames.plan(protocol="overlapped"), 1, 1) == [UNKNOWN, UNKNOWN, UNKNOWN, MASK, MASK]


def test_one_organ_per_frame_uses_each_frame_once_and_spreads_them():
    frames = Frames(*[("10", "abcd")] * 20, *REST)
    plan = frames.plan(protocol="one_organ_per_frame")
    used = [number for step in trained(plan) for number in step]
    assert sorted(used) == list(range(20))
    for step in plan.steps:
        counts = step.train.count(SPACE.classes)
        assert all(counts[name]["frames"] == 5 for name in step.task.new)
        for row, pixels in zip(step.train.rows, step.train.pixels, strict=True):
            assert sorted(row["knowledge"]) == [UNKNOWN] * 4 + [MASK]
            assert (pixels > 0).sum() == 1
            assert SPACE.classes[row["knowledge"].index(MASK)] in step.task.new


def test_frames_of_which_one_organ_was_drawn_stay_what_they_are():
    frames = Frames(("10", "a"), ("10", "b"), ("11", "c"), ("11", "d"), *REST, annotated=True)
    frames.rows[0]["presence"] = {"d": False}
    for protocol in ("one_organ_per_frame", "overlapped"):
        plan = frames.plan(protocol=protocol)
        assert trained(plan) == [[0, 1], [2, 3]]
        assert known(plan, 0, 0) == [UNKNOWN, MASK, UNKNOWN, UNKNOWN, ABSENT]
        blind = frames.plan(protocol=protocol, weak_labels=False)
        assert known(blind, 0, 0) == [UNKNOWN, MASK, *[UNKNOWN] * 3]
        assert not any(row.get("presence") for row in blind.steps[0].train.rows)


def test_the_test_frames_are_all_there_with_all_that_is_known():
    plan = Frames(*FRAMES, *REST).plan()
    assert [row["video"] for row in plan.test.rows] == ["t1", "t2"]
    assert all(row["knowledge"] == [MASK] * 5 for row in plan.test.rows)
    assert plan.test.count(SPACE.classes)["a"] == {"frames": 2, "patients": 2, "pixels": 20, "absent": 0}
    assert plan.test.count(SPACE.classes)["b"] == {"frames": 1, "patients": 1, "pixels": 20, "absent": 1}


def test_frames_that_can_judge_no_class_are_not_tested():
    frames = Frames(("10", "a"), ("10", "b"), ("t1", "a"), ("t1", "c"), ("t1", "d"), ("t2", "ab"), annotated=True)
    frames.rows[4]["presence"] = {"b": False}  # a false positive of b would show
    assert [row["frame"] for row in frames.plan("ab").test.rows] == [2, 4, 5]
    assert [row["frame"] for row in frames.plan("ab", weak_labels=False).test.rows] == [2, 5]


def test_validation_frames_follow_the_protocol_too():
    plan = Frames(*FRAMES, *REST, ("v1", "d")).plan()
    assert [[row["frame"] for row in step.val.rows] for step in plan.steps] == [[7], [7, 10]]
    assert plan.steps[0].val.rows[0]["knowledge"] == [UNKNOWN, MASK, MASK, UNKNOWN, UNKNOWN]


def test_evaluating_on_val_leaves_nothing_to_choose_by():
    plan = Frames(*FRAMES, ("v1", "abcd")).plan(evaluate="val")
    assert [row["video"] for row in plan.test.rows] == ["v1"]
    assert all(not step.val.rows for step in plan.steps)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.sampled_from(["10", "11", "12", "13", "14"]), st.text("abcd", max_size=4)), max_size=30),
    st.sampled_from(["ab cd", "a b c d", "abc d", "d ba", "c"]),
    st.sampled_from(sorted(PROTOCOLS)),
    st.sampled_from(["shared", "disjoint"]),
    st.integers(0, 3),
)
def test_no_step_sees_what_it_may_not(shown, groups, protocol, patients, seed):
    try:
        plan = Frames(*shown, *REST).plan(groups, protocol, patients=patients, seed=seed)
    except UserError:
        return
    by_step = trained(plan)
    if protocol != "overlapped":
        used = [number for step in by_step for number in step]
        assert len(used) == len(set(used))
    if patients == "disjoint":
        everybody = [patient for step in plan.steps for patient in step.train.patients]
        assert len(everybody) == len(set(everybody))
    for step in plan.steps:
        allowed = step.task.seen if protocol == "sequential" else step.task.new
        counts = step.train.count(SPACE.classes)
        assert all(counts[name]["pixels"] for name in step.task.new)
        assert not {row["video"] for row in step.train.rows} & {"v1", "t1", "t2"}
        for row, pixels in zip(step.train.rows, step.train.pixels, strict=True):
            drawn = {name for name, k in zip(SPACE.classes[1:], row["knowledge"][1:], strict=True) if k == MASK}
            assert drawn <= set(allowed)
            assert {SPACE.classes[c] for c in np.flatnonzero(pixels[1:]) + 1} <= drawn
            assert drawn & set(step.task.new)


def test_joint_training_has_the_frames_and_labels_of_the_stream_and_no_more():
    plan = Frames(*FRAMES, *REST).plan()
    assert [row["frame"] for row in plan.joint(0).train.rows] == [0, 1, 3, 4]
    joint = plan.joint(1)
    assert (joint.task.old, joint.task.new) == ((), ("a", "b", "c", "d"))
    rows = {row["frame"]: row["knowledge"] for row in joint.train.rows}
    assert sorted(rows) == [0, 1, 2, 3, 4, 6]
    assert rows[1] == [MASK] * 5  # served both steps, each of which was told of its classes
    assert rows[0] == [UNKNOWN, MASK, MASK, UNKNOWN, UNKNOWN]  # served step 0 alone
    assert joint.train.count(SPACE.classes)["c"]["pixels"] == 3 * 30
    assert [row["frame"] for row in joint.val.rows] == [7]


def test_weak_labels_are_united_with_masks():
    frames = Frames(("10", "a"), ("10", "b"), ("11", "c"), ("11", "d"), *REST, annotated=True)
    frames.rows[0]["presence"] = {"c": False, "d": False, "b": False}
    joint = frames.plan().joint(1)
    assert joint.train.rows[0]["knowledge"] == [MASK, MASK, ABSENT, ABSENT, ABSENT]


# --- leaks ---------------------------------------------------------------------------------------------------------


def test_the_same_picture_in_two_steps_is_refused_or_dropped():
    frames = Frames(*FRAMES, *REST)
    frames.pictures[4] = 6  # frame 4 (b, step 0) is frame 6 (d, step 1)
    with pytest.raises(
        UserError, match=r"12_4 \(step 0 train\) and 12_6 \(step 1 train\) show the same picture, which"
    ):
        frames.plan()
    plan = frames.plan(repeated="drop")
    assert trained(plan) == [[0, 1, 3, 4], [1, 2, 3]]
    assert "1 frames: dropped" in str(plan.findings[0])


def test_a_training_picture_that_is_tested_is_refused_or_dropped_from_training():
    frames = Frames(*FRAMES, *REST)
    frames.pictures[0] = 8
    with pytest.raises(UserError, match=r"10_0 \(step 0 train\) and t1_8 \(test\) show the same picture"):
        frames.plan()
    plan = frames.plan(repeated="drop")
    assert trained(plan)[0] == [1, 3, 4]
    assert len(plan.test.rows) == 2


def test_the_same_picture_twice_in_one_place_is_no_leak():
    frames = Frames(*FRAMES, *REST, ("10", "a"))
    frames.pictures[-1] = 0
    assert trained(frames.plan())[0] == [0, 1, 3, 4, 10]


def test_pictures_that_look_alike_are_named():
    frames = Frames(*FRAMES, *REST)
    one = Image.fromarray(picture(1, (120, 160)))
    stream = Stream("toy", SPACE, (("a", "b"), ("c", "d")), "overlapped", patients="shared")
    signatures = [sign(number) for number in frames.pictures]
    signatures[0], signatures[9] = sign_frame(one), sign_frame(one.resize((80, 60)))
    plan = plan_stream(stream, frames.rows, frames.pixels, signatures)
    assert any("10_0 (step 0 train) and t2_9 (test) look alike" in str(finding) for finding in plan.findings)


def test_frames_that_serve_several_steps_are_counted():
    plan = Frames(*FRAMES, *REST).plan()
    assert any(str(finding).startswith("2 frames: serve several steps") for finding in plan.findings)


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "options", "message"),
    [
        ("ab xd", {}, "Unknown class 'x'"),
        ("ab ca", {}, "'a' is named twice"),
        ("", {}, "at least one step"),
        ("ab cd", {"protocol": "overlaped"}, "Did you mean 'overlapped'"),
        ("ab cd", {"patients": "disjunct"}, "Did you mean 'disjoint'"),
        (
            "ab cd",
            {"patients": "disjoint", "assigned": (("10", "11"), ("11", "12"))},
            "patient '11' is in steps 0 and 1, but patients are to be disjoint",
        ),
        ("ab cd", {"assigned": (("10",), ("t1",))}, "names patient 't1', who is none of the training patients: 10, 11"),
        ("ab cd", {"assigned": (("10",), ())}, "name those of all steps, or of none"),
        (
            "ab cd",
            {"assigned": (("10",), ("12",))},
            r"step 0 of stream 'toy': 'b' has no pixel in its 2 training frames",
        ),
        ("c ad b", {"protocol": "disjoint"}, r"step 0 of stream 'toy' has no training frame: protocol 'disjoint'"),
        ("ab cd", {"evaluate": "train"}, "Unknown evaluate 'train'"),
        ("ab cd", {"sources": ("multi",)}, "Unknown source 'multi'"),
    ],
)
def test_bad_streams_are_refused(groups, options, message):
    with pytest.raises(UserError, match=message):
        Frames(*FRAMES, *REST).plan(groups, **{"protocol": "overlapped", **options})


def test_too_few_patients_for_disjoint_steps_are_named():
    with pytest.raises(UserError, match="no training patient is left to show"):
        Frames(("10", "abcd"), *REST).plan(patients="disjoint")


def test_weak_labels_against_a_mask_are_named():
    frames = Frames(("10", "a"), ("10", "b"), ("11", "cd"), *REST, annotated=True)
    frames.rows[0]["presence"] = {"a": False}
    with pytest.raises(UserError, match=r"0\.png: weak labels say that there is no a, its mask has 10 px"):
        frames.plan()
    assert frames.plan(weak_labels=False)


def test_without_test_frames_there_is_nothing_to_report():
    with pytest.raises(UserError, match=r"leaves 'test' empty.*write `evaluate: val`"):
        Frames(*FRAMES, ("v1", "abcd")).plan()


def test_classes_that_cannot_be_scored_are_named():
    plan = Frames(*FRAMES, ("v1", "acd"), ("t1", "abc")).plan()
    notes = [str(finding) for finding in plan.findings]
    assert "test: no pixel of d: no score there" in notes
    assert "step 0 val: no pixel of b: no score there" in notes


# --- from files to samples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_fully_annotated_frames_become_samples_of_their_step(tiny_phantom, tmp_path, monkeypatch, protocol):
    """CholecSeg8k's phantom through all protocols: a sample shows the classes that its step was told of, no others."""
    monkeypatch.setenv("LAP_MONAI_CACHE", str(tmp_path / "cache"))
    space = get_label_space("cholecseg8k_13")
    groups = (("Abdominal Wall", "Liver"), ("Fat", "Gallbladder", "Grasper"))
    if protocol in ("sequential", "disjoint"):  # frames without fat are rare
        groups = (("Abdominal Wall", "Liver", "Fat", "Gallbladder"), ("Grasper",))
    stream = Stream("phantom", space, groups, protocol, patients="shared", split=(0.5, 0.25, 0.25))
    plan = open_stream(stream, tiny_phantom, progress=False)
    rows = [row for step in plan.steps for row in step.train.rows]
    cache = FrameCache.build(rows, (32, 48), tmp_path / "cache", progress=False)
    for step in plan.steps:
        dataset = StepDataset(step.train.rows, cache, space, step.task)
        for sample, row in zip(dataset, step.train.rows, strict=True):
            drawn = {k for k in range(step.task.num_channels) if sample["knowledge"][k] == MASK}
            shown = set(sample["label"].unique().tolist()) - {0, 255}
            assert shown <= drawn
            assert (0 in drawn) == (len(drawn) == step.task.num_channels)
            raw = space.encode(np.asarray(read_mask(row["label"])))
            names = {space.classes[c] for c in np.unique(raw) if c != 255}
            assert {step.task.channels[k] for k in shown} <= names
