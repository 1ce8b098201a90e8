import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import SIZE, stripes, write_dsad

from lap_monai.data import (
    FrameCache,
    FrameDataset,
    StepDataset,
    hide_classes,
    limit_knowledge,
    read_dsad,
    row_knowledge,
)
from lap_monai.label_space import get_label_space
from lap_monai.task_stream import Knowledge, TaskStep, complete_knowledge

SPACE = get_label_space("dsad_11")
CLASSES = SPACE.classes
UNKNOWN, ABSENT, MASK = Knowledge.UNKNOWN, Knowledge.ABSENT, Knowledge.MASK

vectors = st.lists(st.sampled_from(Knowledge), min_size=len(CLASSES), max_size=len(CLASSES)).map(complete_knowledge)


def known(row):
    return {name: Knowledge(k) for name, k in zip(CLASSES, row_knowledge(row, CLASSES), strict=True) if k}


def test_what_a_row_says():
    row = {"label": {"m.png": 5}, "annotated": ["liver"], "presence": {"liver": True, "ureter": False, "colon": True}}
    assert known(row) == {"liver": MASK, "ureter": ABSENT}
    assert known({"label": "mask.png"}) == dict.fromkeys(CLASSES, MASK)
    assert known({"label": None, "presence": {"ureter": False}}) == {"ureter": ABSENT}
    assert known({**row, "knowledge": [1] * 12}) == dict.fromkeys(CLASSES, ABSENT)
    everything_else = dict.fromkeys(set(CLASSES[1:]) - {"liver"}, False)
    assert known({**row, "presence": everything_else})["background"] is MASK


@given(vectors, st.sets(st.sampled_from(CLASSES[1:])), st.booleans())
def test_limited_knowledge_says_no_more(knowledge, drawn, weak_labels):
    limited = limit_knowledge(knowledge, CLASSES, drawn, weak_labels)
    for name, before, after in zip(CLASSES[1:], knowledge[1:], limited[1:], strict=True):
        stays = {UNKNOWN: True, ABSENT: weak_labels, MASK: name in drawn}[Knowledge(before)]
        assert after == (before if stays else UNKNOWN)


@given(vectors, st.lists(st.sampled_from([*range(12), 255]), min_size=1))
def test_hiding_leaves_drawn_classes_alone(knowledge, ids):
    hidden = hide_classes(np.array(ids, np.uint8), knowledge)
    for before, after in zip(ids, hidden.tolist(), strict=True):
        assert after == (before if before == 255 or knowledge[before] == MASK else 0)


@pytest.fixture
def data(tmp_path):
    root = write_dsad(tmp_path / "dsad", {"liver": {"01": 1}, "stomach": {"01": 1}, "ureter": {"02": 1}})
    rows = read_dsad(root, ["organs", "multilabel"])
    return rows, FrameCache.build(rows, SIZE, tmp_path / "cache", progress=False)


STEP = TaskStep(CLASSES, old=("stomach", "ureter"), new=("liver",))


def sample_of(dataset, name):
    return next(sample for sample in dataset if name in sample["id"])


def test_samples_are_in_channels_and_say_what_they_know(data):
    dataset = StepDataset(data[0], data[1], SPACE, STEP)
    stomach = sample_of(dataset, "stomach")
    np.testing.assert_array_equal(stomach["label"][0], stripes(0, 1, 0, 0))
    assert stomach["knowledge"].tolist() == [UNKNOWN, MASK, ABSENT, UNKNOWN]
    assert stomach["knowledge"].dtype is torch.uint8
    liver = sample_of(dataset, "liver")
    np.testing.assert_array_equal(liver["label"][0], stripes(0, 3, 3, 0))
    assert liver["knowledge"].tolist() == [MASK, ABSENT, ABSENT, MASK]  # the spleen has no channel
    both = sample_of(dataset, "multilabel")
    np.testing.assert_array_equal(both["label"][0], stripes(0, 1, 3, 0))
    assert both["knowledge"].tolist() == [UNKNOWN, MASK, UNKNOWN, MASK]
    # The class vector knows more than the mask: a weak label said that a liver is in the frame of the stomach.
    assert stomach["classes"][1:].tolist() == [1, 0, 1]
    assert math.isnan(both["classes"][2])


def test_a_row_of_a_stream_hides_what_its_step_may_not_see(data):
    rows, cache = data
    limited = [{**row, "knowledge": limit_knowledge(row_knowledge(row, CLASSES), CLASSES, ["liver"], False).tolist()}
               for row in rows]  # fmt: skip
    both = sample_of(StepDataset(limited, cache, SPACE, STEP), "multilabel")
    np.testing.assert_array_equal(both["label"][0], stripes(0, 0, 3, 0))
    assert both["knowledge"].tolist() == [UNKNOWN, UNKNOWN, UNKNOWN, MASK]


@pytest.mark.parametrize(("unseen", "value"), [("ignore", 255), ("background", 0)])
def test_drawn_classes_without_a_channel(data, unseen, value):
    step = TaskStep(CLASSES, (), ("stomach",))
    both = sample_of(StepDataset(data[0], data[1], SPACE, step, unseen=unseen), "multilabel")
    np.testing.assert_array_equal(both["label"][0], stripes(0, 1, value, 0))
    assert both["knowledge"].tolist() == [MASK, MASK]


def test_masks_that_may_not_be_used_say_nothing(data):
    dataset = StepDataset(data[0], data[1], SPACE, STEP, use_masks=data[0][:1])
    assert (dataset.knowledge[1:] == UNKNOWN).all()
    assert dataset.knowledge[0].any()
    assert (dataset[2]["label"] == 255).all()
    assert not dataset[2]["knowledge"].any()


def test_pixels_are_counted_in_channels(data):
    dataset = StepDataset(data[0], data[1], SPACE, STEP)
    labels = torch.stack([sample["label"] for sample in dataset])
    assert dataset.pixel_counts.tolist() == [(labels == channel).sum().item() for channel in range(4)]


def test_with_everything_annotated_a_step_of_all_classes_is_the_data_set(write_rows, tmp_path):
    space = get_label_space("cholecseg8k_13")
    rows = write_rows(3)
    cache = FrameCache.build(rows, (12, 20), tmp_path / "cache", progress=False)
    whole = StepDataset(rows, cache, space, TaskStep(space.classes, (), space.classes[1:]))
    for sample, plain in zip(whole, FrameDataset(rows, cache, space), strict=True):
        assert sample["knowledge"].tolist() == [MASK] * 13
        for key in plain:
            assert key in ("video", "id") or torch.equal(sample[key], plain[key])


def test_no_row_is_no_sample(data):
    dataset = StepDataset([], data[1], SPACE, STEP)
    assert len(dataset) == 0
    assert dataset.knowledge.shape == dataset.class_vectors.shape == (0, 4)
