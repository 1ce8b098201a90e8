from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import BasicUNet
from replay_frames import Operations
from tiny_data import picture

from lap_monai.checks import UserError
from lap_monai.replay import MemorisationAudit, encoder_features, null_frames, null_limit, plant_copies

# --- the limit -----------------------------------------------------------------------------------------------------

PATIENTS = [f"p{i % 5}" for i in range(1000)]


@pytest.mark.parametrize(("count", "level", "rank"), [(99, 0.01, 1), (198, 0.01, 1), (199, 0.01, 2), (19, 0.05, 1)])
def test_the_limit_is_an_order_statistic(count: int, level: float, rank: int) -> None:
    distances = np.random.default_rng(count).permutation(count).astype(float)  # 0 to count - 1
    assert null_limit(distances, PATIENTS[:count], level) == rank - 1


def test_a_new_frame_is_flagged_as_seldom_as_the_level_says() -> None:
    """Conformal prediction's promise, over many draws of a null of 99 frames and one further frame."""
    rng = np.random.default_rng(0)
    draws = rng.gamma(3, size=(20_000, 100))
    flagged = [draw[99] < null_limit(draw[:99], PATIENTS[:99], 0.01) for draw in draws]
    assert np.mean(flagged) == pytest.approx(0.01, abs=3 * math.sqrt(0.01 * 0.99 / 20_000))


@pytest.mark.parametrize("level", [0.01, 0.02, 0.05, 0.1])
def test_the_smallest_null_that_is_allowed(level: float) -> None:
    needed = null_frames(level)
    assert math.floor(level * (needed + 1) + 1e-9) >= 1 > math.floor(level * needed + 1e-9)
    null_limit(np.arange(needed, dtype=float), PATIENTS[:needed], level)
    with pytest.raises(UserError, match=rf"{needed - 1} held-out frames but needs {needed}: .*level"):
        null_limit(np.arange(needed - 1, dtype=float), PATIENTS[: needed - 1], level)


def test_too_few_patients_and_odd_levels() -> None:
    with pytest.raises(UserError, match="4 held-out patients but needs 5"):
        null_limit(np.arange(100.0), [f"p{i % 4}" for i in range(100)])
    for level in (0, 1, -0.1):
        with pytest.raises(UserError, match="level"):
            null_limit(np.arange(100.0), PATIENTS[:100], level)


# --- planted copies ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audit(operations: Operations) -> MemorisationAudit:
    return MemorisationAudit(operations.training, operations.held_out, operations.patients)


@settings(max_examples=40, deadline=None)
@given(frame=st.integers(0, 10**6), seed=st.integers(0, 10**6))
def test_planted_copies_are_always_caught(
    audit: MemorisationAudit, operations: Operations, frame: int, seed: int
) -> None:
    original = operations.training[frame % len(operations.training)]
    copies = plant_copies(original, np.random.default_rng(seed))
    found = audit(list(copies.values()))
    assert found.flagged.all(), [name for name, caught in zip(copies, found.flagged, strict=True) if not caught]
    assert found.near_in_pixels.all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_copies_of_any_picture_are_caught_whatever_the_null(seed: int) -> None:
    """Here the null is made of near-copies, so that its own quantile is next to 0."""
    training = [picture(seed * 3 + i, (48, 64)) for i in range(3)]
    audit = MemorisationAudit(training, [training[i % 3] for i in range(5)], PATIENTS[:5], level=0.2)
    copies = plant_copies(training[seed % 3], np.random.default_rng(seed))
    assert audit(list(copies.values())).flagged.all()


def test_the_disguises_change_the_frame() -> None:
    frame = picture(0, (48, 64))
    copies = plant_copies(frame, np.random.default_rng(0))
    changed = {name for name, copy in copies.items() if not np.array_equal(copy, frame)}
    assert changed == set(copies) - {"exact"}
    assert all(copy.shape == frame.shape and copy.dtype == np.uint8 for copy in copies.values())


def test_frames_of_new_patients_are_not_flagged(audit: MemorisationAudit, operations: Operations) -> None:
    result = audit(operations.others)
    assert result.share <= 0.05
    assert len(result.pixel.index) == len(operations.others)


def test_at_most_the_level_of_the_null_itself_is_flagged(audit: MemorisationAudit, operations: Operations) -> None:
    found = audit.describe()
    assert found["pixel"]["null_share_flagged"] <= 0.01
    assert found["training_frames"] == len(operations.training)
    assert found["held_out_frames"] == len(operations.held_out)
    assert found["held_out_patients"] == len(set(operations.patients))
    assert "feature" not in found


# --- features ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> BasicUNet:
    torch.manual_seed(0)
    return BasicUNet(2, 3, 8, features=(4, 8, 8, 16, 16, 4)).eval()


def test_features_do_not_tell_mirror_images_apart(operations: Operations, network: BasicUNet) -> None:
    audit = MemorisationAudit(
        operations.training, operations.held_out, operations.patients, partial(encoder_features, network)
    )
    copies = [frame[:, ::-1] for frame in operations.training[:8]]
    found = audit(copies)
    assert found.feature is not None
    np.testing.assert_allclose(found.feature.distance, 0, atol=1e-5)
    assert found.near_in_features.all()
    assert {"pixel", "feature"} <= set(audit.describe())


def test_missing_and_unequal_frames(operations: Operations) -> None:
    with pytest.raises(UserError, match="held-out frames are 64x32, the training frames"):
        MemorisationAudit(operations.training, np.zeros((99, 32, 64, 3), np.uint8), PATIENTS[:99])
    with pytest.raises(UserError, match="needs 99"):
        MemorisationAudit(operations.training, operations.held_out[:50], operations.patients[:50])
