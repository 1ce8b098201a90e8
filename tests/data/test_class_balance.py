"""Class weights: the rarer the heavier, and of mean 1 over the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from lap_monai.checks import UserError
from lap_monai.data import balanced_class_weights


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_follow_rarity_and_keep_the_losss_scale(power):
    counts = np.array([900, 90, 10])
    weights = np.array(balanced_class_weights(counts, power))
    np.testing.assert_allclose((weights * counts).sum() / counts.sum(), 1)
    np.testing.assert_allclose(weights[2] / weights[0], 90**power)


def test_power_1_gives_every_class_the_same_say():
    counts = np.array([900, 90, 10])
    np.testing.assert_allclose(np.array(balanced_class_weights(counts, 1.0)) * counts, counts.sum() / 3)


def test_an_absent_class_gets_the_greatest_weight():
    weights = balanced_class_weights([900, 0, 10])
    assert weights[1] == weights[2] > weights[0]


def test_bad_arguments_are_named():
    with pytest.raises(UserError, match="no pixel of any class"):
        balanced_class_weights([0, 0])
    with pytest.raises(UserError, match=r"power=1\.5"):
        balanced_class_weights([1, 2], power=1.5)
