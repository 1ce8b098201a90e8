import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lap_monai.checks import UserError
from lap_monai.task_stream import Knowledge, TaskStep, complete_knowledge, task_steps

CLASSES = ("background", "colon", "liver", "spleen", "ureter")


@st.composite
def steps(draw):
    names = draw(st.permutations(CLASSES[1:]))
    seen = draw(st.integers(1, len(names)))
    old = draw(st.integers(0, seen))
    return TaskStep(CLASSES, names[:old], names[old:seen])


@given(steps(), st.lists(st.sampled_from([0, 1, 2, 3, 4, 255]), min_size=1))
def test_channels_and_classes_are_inverse_where_a_class_is_seen(step, ids):
    label = np.array(ids, np.uint8)
    channels = step.to_channels(label)
    back = step.to_classes(channels)
    for raw, channel, again in zip(ids, channels.tolist(), back.tolist(), strict=True):
        name = None if raw == 255 else CLASSES[raw]
        if name in step.channels:
            assert channel == step.channels.index(name)
            assert again == raw
        else:
            assert channel == again == 255


@given(steps())
def test_channels_are_background_old_new_without_gap(step):
    assert (0, *step.old_channels, *step.new_channels) == tuple(range(step.num_channels))
    assert [CLASSES[i] for i in step.ids] == list(step.channels) == ["background", *step.old, *step.new]


def test_unseen_classes_are_ignored_or_background():
    step = TaskStep(CLASSES, ("ureter",), ("colon",))
    label = np.arange(5, dtype=np.uint8)
    assert step.to_channels(label).tolist() == [0, 2, 255, 255, 1]
    assert step.to_channels(label, unseen="background").tolist() == [0, 2, 0, 0, 1]
    with pytest.raises(UserError, match="unseen 'backgrund'"):
        step.to_channels(label, unseen="backgrund")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_tensors_keep_shape_and_type(dtype):
    step = TaskStep(CLASSES, (), ("liver",))
    label = torch.tensor([[[0, 2], [4, 255]]], dtype=dtype)
    channels = step.to_channels(label)
    assert channels.tolist() == [[[0, 1], [255, 255]]]
    assert channels.dtype is dtype
    assert step.to_classes(channels).tolist() == [[[0, 2], [255, 255]]]
    assert step.to_channels(label.numpy()).dtype == label.numpy().dtype


def test_the_background_is_known_where_all_others_are():
    U, A, M = Knowledge.UNKNOWN, Knowledge.ABSENT, Knowledge.MASK
    assert complete_knowledge([U, M, A, M, A]).tolist() == [M, M, A, M, A]
    assert complete_knowledge([M, M, A, U, A]).tolist() == [U, M, A, U, A]
    step = TaskStep(CLASSES, ("spleen",), ("colon",))
    # Liver is unknown, but it has no channel here: to this network it is background.
    assert step.knowledge_of_channels([U, M, U, A, U]).tolist() == [M, A, M]
    assert step.knowledge_of_channels([U, M, A, U, A]).tolist() == [U, U, M]


def test_a_stream_hands_classes_on():
    first, second, third = task_steps(CLASSES, [["ureter", "colon"], ["liver"], ["spleen"]])
    assert (first.old, first.new, first.previous) == ((), ("ureter", "colon"), None)
    assert (second.old, second.new) == (first.seen, ("liver",))
    assert third.seen == ("ureter", "colon", "liver", "spleen")
    # The channels of a step begin with those of the one before: its weights can be taken over as they are.
    assert third.channels[: second.num_channels] == second.channels == third.previous.channels


def test_lists_of_a_config_are_taken():
    step = TaskStep(list(CLASSES), [], ["liver"])
    assert step == TaskStep(CLASSES, (), ("liver",))
    assert hash(step) == hash(TaskStep(CLASSES, (), ("liver",)))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["liver"], ["livr"]], "Did you mean 'liver'"),
        ([["liver", "liver"]], "'liver' is named twice"),
        ([["liver"], ["colon", "liver"]], "'liver' is named twice"),
        ([["background"]], "'background' is the background"),
        ([["liver"], []], "step 1 of the stream names no class"),
    ],
)
def test_a_wrong_stream_is_refused_by_name(groups, message):
    with pytest.raises(UserError, match=message):
        task_steps(CLASSES, groups)


def test_a_step_without_any_class_is_refused():
    with pytest.raises(UserError, match="names no class"):
        TaskStep(CLASSES, (), ())
