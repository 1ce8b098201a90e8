import pickle

import numpy as np
import pytest

from lap_monai.checks import UserError
from lap_monai.label_space import LABEL_SPACES, get_label_space

FULL = get_label_space("cholecseg8k_13")


@pytest.mark.parametrize("space", LABEL_SPACES.values(), ids=str)
def test_every_space_is_consistent(space):
    assert len(space.classes) == len(set(space.classes)) == len(space.colours) == len(set(space.colours))
    assert set(space.values.values()) == set(range(space.num_classes))
    assert not set(space.values) & set(space.ignored)
    for raw in range(256):
        assert space.lut[raw] == space.values.get(raw, 255)
    assert space.origin
    assert pickle.loads(pickle.dumps(space)) == space
    assert hash(space) == hash(get_label_space(space.name))


def test_published_cholecseg8k_values_stand_for_their_classes():
    # The dataset card gives the values as text "#RRGGBB" whose digits are decimal: liver is 21, not 0x21.
    assert FULL.classes[FULL.values[21]] == "Liver"
    assert FULL.classes[FULL.values[50]] == "Black Background"
    assert FULL.classes[FULL.values[5]] == "Liver Ligament"
    assert FULL.ignored == (0, 255)


def test_border_and_specks_are_ignored_not_background():
    mask = np.array([[255, 0, 50], [11, 13, 22]], dtype=np.uint8)
    np.testing.assert_array_equal(FULL.encode(mask), [[255, 255, 0], [1, 3, 10]])


def test_zhang_ignores_the_five_dropped_classes():
    zhang = get_label_space("cholecseg8k_zhang8")
    dropped = {"Gastrointestinal Tract", "Blood", "Cystic Duct", "Hepatic Vein", "Liver Ligament"}
    assert set(FULL.classes) - set(zhang.classes) == dropped
    for raw, index in FULL.values.items():
        name = FULL.classes[index]
        assert zhang.lut[raw] == (255 if name in dropped else zhang.classes.index(name))
    assert zhang.unknown_values(np.bincount([13, 24, 255, 0, 50], minlength=256)) == ()


def test_endovit_merges_instruments_and_the_rare_tissues():
    endovit = get_label_space("cholecseg8k_endovit8")
    by_class = {name: [] for name in endovit.classes}
    for raw, index in endovit.values.items():
        by_class[endovit.classes[index]].append(FULL.classes[FULL.values[raw]])
    assert sorted(by_class["Instruments"]) == ["Grasper", "L-hook Electrocautery"]
    assert sorted(by_class["Misc"]) == ["Blood", "Connective Tissue", "Cystic Duct", "Hepatic Vein", "Liver Ligament"]
    assert sum(map(len, by_class.values())) == 13
    assert endovit.ignored == (0, 255)


def test_counting_equals_encoding_then_counting():
    mask = np.random.default_rng(0).choice([0, 5, 11, 12, 13, 21, 22, 23, 24, 25, 31, 32, 33, 50, 255], (40, 30))
    for name in ("cholecseg8k_13", "cholecseg8k_zhang8", "cholecseg8k_endovit8"):
        space = get_label_space(name)
        ids = space.encode(mask.astype(np.uint8))
        counts = space.count_pixels(np.bincount(mask.ravel(), minlength=256))
        assert counts.tolist() == [(ids == i).sum() for i in range(space.num_classes)]


def test_counting_keeps_leading_axes():
    histograms = np.random.default_rng(1).integers(0, 9, (4, 3, 256))
    counts = FULL.count_pixels(histograms)
    assert counts.shape == (4, 3, 13)
    np.testing.assert_array_equal(counts[2, 1], FULL.count_pixels(histograms[2, 1]))


def test_unknown_values_are_those_the_layout_does_not_define():
    histogram = np.zeros(256, dtype=np.int64)
    histogram[[0, 255, 21, 7, 99]] = 1
    assert FULL.unknown_values(histogram) == (7, 99)


def test_merging_an_unknown_class_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="Did you mean 'Grasper'"):
        FULL.merge("x", {"Tools": ["Graspers"]}, origin="test")


def test_an_unknown_space_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="Did you mean 'cholecseg8k_zhang8'"):
        get_label_space("cholecseg8k_zang8")


@pytest.mark.parametrize("space", LABEL_SPACES.values(), ids=str)
def test_class_ids_are_read_as_they_are(space):
    ids = np.arange(256, dtype=np.uint8)
    decoded = space.of_class_ids().encode(ids)
    assert decoded[: space.num_classes].tolist() == list(range(space.num_classes))
    assert (decoded[space.num_classes :] == 255).all()
    assert space.of_class_ids().unknown_values(np.ones(256)) == tuple(range(space.num_classes, 255))
    assert space.of_class_ids().classes == space.classes
