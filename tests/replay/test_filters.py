from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab
from tiny_data import picture

from lap_monai.checks import UserError
from lap_monai.replay import ColourModel, near_duplicates, select_balanced
from lap_monai.replay.colour import colour_statistics

SIZE = (24, 32)


def tinted(seed: int, tint: tuple[float, float, float] = (1.0, 0.6, 0.5), light: float = 1.0) -> np.ndarray:
    return (picture(seed, SIZE) * np.array(tint) * light).clip(0, 255).astype(np.uint8)


# --- colour --------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_lab() -> None:
    frame = tinted(0)
    lab = np.array([rgb2lab(frame[y : y + 1, x : x + 1])[0, 0] for y in range(0, 24, 2) for x in range(0, 32, 2)])
    np.testing.assert_allclose(colour_statistics([frame])[0], [*lab.mean(0), *lab.std(0)], atol=1e-6)


def test_odd_colours_and_exposures_are_farther_than_any_training_frame() -> None:
    training = [tinted(seed, light=0.8 + 0.01 * (seed % 40)) for seed in range(120)]
    model = ColourModel(training)
    usual = model.distance([tinted(seed, light=0.9) for seed in range(200, 240)])
    odd = {
        "green": tinted(0, (0.4, 1.0, 0.4)),
        "dark": tinted(0, light=0.15),
        "burnt out": (tinted(0) / 8 + 220).astype(np.uint8),
        "flat": np.full((*SIZE, 3), 120, np.uint8),
    }
    distances = dict(zip(odd, model.distance(list(odd.values())), strict=True))
    assert min(distances.values()) > usual.max(), distances
    assert np.sqrt(np.mean(model.distance(training) ** 2)) == pytest.approx(np.sqrt(6), rel=0.15)


def test_equal_training_frames_give_finite_distances() -> None:
    model = ColourModel([tinted(0)] * 3)
    assert model.distance([tinted(0)])[0] == pytest.approx(0, abs=1e-6)
    assert np.isfinite(model.distance([tinted(1)])).all()
    with pytest.raises(ValueError, match="at least 2"):
        ColourModel([tinted(0)])


# --- near-duplicates -----------------------------------------------------------------------------------------------


def test_the_first_of_equals_is_kept() -> None:
    a, b = picture(0, SIZE), picture(1, SIZE)
    lighter = (a * 0.9 + 10).astype(np.uint8)
    frames = [a, b, lighter, b]
    assert near_duplicates(frames, [0, 1, 2, 3]) == {2: 0, 3: 1}
    assert near_duplicates(frames, [2, 3, 0, 1]) == {0: 2, 1: 3}
    assert near_duplicates(frames, [1, 2]) == {}
    assert near_duplicates(frames, []) == {}


def test_features_find_what_hashes_do_not() -> None:
    frames = [picture(seed, SIZE) for seed in range(4)]
    points = np.array([[0, 0], [3, 4], [3, 4.2], [9, 9]], np.float32)
    assert near_duplicates(frames, range(4), points, limit=0.3) == {2: 1}
    assert near_duplicates(frames, range(4), points, limit=0.1) == {}


def test_chains_are_cut() -> None:
    """Each is close to the next: every second one stays, not only the first."""
    frames = [picture(seed, SIZE) for seed in range(5)]
    points = np.arange(5, dtype=np.float32)[:, None]
    assert near_duplicates(frames, range(5), points, limit=1.5) == {1: 0, 3: 2}


# --- class balance -------------------------------------------------------------------------------------------------


def objective(pixels: np.ndarray, chosen: list[int]) -> float:
    shares = pixels / pixels.sum(0)
    return float(sum(np.log(1e-3 + shares[chosen, c].sum()) for c in range(pixels.shape[1])))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 4))
def test_greedy_choice_is_close_to_the_best(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 100, (7, 3)) * (rng.random((7, 3)) < 0.6) + np.eye(7, 3, dtype=int)
    chosen = select_balanced(pixels, count).tolist()
    best = max(objective(pixels, list(some)) for some in itertools.combinations(range(7), count))
    nothing = objective(pixels, [])
    assert objective(pixels, chosen) - nothing >= (1 - 1 / np.e) * (best - nothing)
    assert len(set(chosen)) == count


def test_a_thin_structure_is_represented() -> None:
    """A hundred images of organs, five of which show a few pixels of a duct: a choice of ten takes them all."""
    rng = np.random.default_rng(0)
    pixels = np.concatenate([rng.integers(1000, 2000, (100, 3)), np.zeros((100, 1), int)], axis=1)
    ducts = [7, 21, 50, 68, 93]
    pixels[ducts, 3] = [5, 6, 7, 8, 9]
    chosen = select_balanced(pixels, 10)
    assert set(ducts) <= set(chosen.tolist())
    share = pixels[chosen].sum(0) / pixels.sum(0)
    assert share[3] == 1
    assert share[:3].min() > 0.08


def test_choices_are_nested_and_odd_pools_work() -> None:
    pixels = np.random.default_rng(0).integers(0, 50, (20, 4))
    assert select_balanced(pixels, 12)[:5].tolist() == select_balanced(pixels, 5).tolist()
    assert sorted(select_balanced(pixels, 20).tolist()) == list(range(20))
    assert select_balanced(np.zeros((3, 2), int), 2).tolist() == [0, 1]
    assert select_balanced(pixels, 0).tolist() == []
    with pytest.raises(UserError, match="21 images are wanted, but 20"):
        select_balanced(pixels, 21)
