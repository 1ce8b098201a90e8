"""Batches: fixed ratio, masked first, every frame its turn, positives together, the same on any number of processes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch.distributed
from torch.utils.data import DataLoader

from lap_monai.checks import UserError
from lap_monai.data import MixedBatchSampler, positive_groups


def indices(batch: list[tuple[int, int]]) -> list[int]:
    return [index for index, _ in batch]


def groups_of(n: int, seed: int = 0) -> np.ndarray:
    """A few large and many small groups, as class vectors give."""
    return np.minimum(np.random.default_rng(seed).zipf(1.4, n), 200)


def lonely_share(batches: list[list[tuple[int, int]]], groups: np.ndarray, masked: list[int] | range) -> float:
    """Share of the drawn frames that are alone of their group in a batch, though they need not be.

    Masked frames are drawn first, so that a label-only frame can only count on label-only fellows.
    """
    of_masked, of_all = Counter(groups[list(masked)].tolist()), Counter(groups.tolist())
    lonely = total = 0
    for batch in batches:
        present = Counter(groups[indices(batch)].tolist())
        for i in indices(batch):
            fellows = of_all[groups[i]] - (1 if i in masked else of_masked[groups[i]] + 1)
            total += 1
            lonely += fellows > 0 and present[groups[i]] == 1
    return lonely / total


# --- positive groups ---


def test_groups_are_equal_class_vectors_in_equal_phases():
    rng = np.random.default_rng(0)
    vectors, phases = rng.integers(0, 2, (60, 3)).astype(np.float32), rng.integers(-1, 2, 60)
    groups = positive_groups(vectors, phases)
    for i in range(60):
        for j in range(60):
            assert (groups[i] == groups[j]) == (bool((vectors[i] == vectors[j]).all()) and phases[i] == phases[j])


def test_unknown_class_vectors_are_nobodys_positives():
    vectors = np.array([[1, 0], [np.nan, np.nan], [np.nan, np.nan], [1, 0]], np.float32)
    groups = positive_groups(vectors, np.zeros(4, np.int64))
    assert groups[0] == groups[3]
    assert len(set(groups.tolist())) == 3


# --- composition ---


@pytest.mark.parametrize("ensure_positives", [False, True])
def test_a_fixed_ratio_masked_first(ensure_positives):
    masked, label_only = range(0, 300, 5), [i for i in range(300) if i % 5]
    sampler = MixedBatchSampler(masked, label_only, 6, 14, groups_of(300), ensure_positives)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 18  # 240 / 14, rounded up
    for batch in batches:
        assert all(i in masked for i in indices(batch[:6]))
        assert all(i in label_only for i in indices(batch[6:]))
        assert len(set(indices(batch))) == len(batch) == 20


def test_an_epoch_sees_every_label_only_frame_and_masked_ones_evenly():
    masked, label_only = list(range(10)), list(range(10, 107))
    batches = list(MixedBatchSampler(masked, label_only, 4, 10))
    label_only_counts = Counter(i for batch in batches for i in indices(batch[4:]))
    assert set(label_only_counts) == set(label_only)
    assert sum(label_only_counts.values()) - 97 == 3  # the last batch is filled up
    masked_counts = Counter(i for batch in batches for i in indices(batch[:4]))
    assert set(masked_counts) == set(masked)
    assert max(masked_counts.values()) - min(masked_counts.values()) <= 1


def test_no_frame_twice_in_a_batch_where_a_round_ends_within_it():
    sampler = MixedBatchSampler(range(7), [], 5, 0, steps_per_epoch=200)
    assert all(len(set(indices(batch))) == 5 for batch in sampler)


def test_a_small_group_fills_its_places_with_other_seeds():
    batch = next(iter(MixedBatchSampler(range(3), range(3, 50), 10, 5)))
    counts = Counter(indices(batch[:10]))
    assert sorted(counts.values()) == [3, 3, 4]
    assert len(set(batch)) == 15


@pytest.mark.parametrize("ensure_positives", [False, True])
@pytest.mark.parametrize("name", ["masked", "label_only"])
def test_one_group_alone(name, ensure_positives):
    other = {"masked": "label_only", "label_only": "masked"}[name]
    options = {name: range(50), other: [], f"{name}_per_batch": 8, f"{other}_per_batch": 0}
    sampler = MixedBatchSampler(**options, groups=groups_of(50), ensure_positives=ensure_positives)
    batches = list(sampler)
    assert len(batches) == 7
    if not ensure_positives:
        assert {i for batch in batches for i in indices(batch)} == set(range(50))


def test_steps_per_epoch():
    sampler = MixedBatchSampler(range(4), range(4, 40), 2, 6, steps_per_epoch=3)
    assert len(list(sampler)) == len(sampler) == 3


# --- reproducible ---


def test_an_epoch_is_a_function_of_its_number():
    def sampler() -> MixedBatchSampler:
        return MixedBatchSampler(range(9), range(9, 90), 3, 9, groups_of(90), True, seed=4)

    running = sampler()
    epochs = [list(running) for _ in range(4)]  # iterating moves on by itself
    assert all(a != b for a, b in pairwise(epochs))
    resumed = sampler()
    for epoch in (2, 0, 3):
        resumed.set_epoch(epoch)
        assert list(resumed) == epochs[epoch]
    other = MixedBatchSampler(range(9), range(9, 90), 3, 9, groups_of(90), True, seed=5)
    assert list(other) != epochs[0]


def test_seeds_differ_and_fit_monais_random_state():
    seeds = [seed for batch in MixedBatchSampler(range(10), range(10, 1000), 10, 30) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)
    np.random.RandomState(max(seeds))
    assert min(seeds) >= 0


# --- positives ---


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5])
def test_positives_are_drawn_together(share):
    n, rng = 2000, np.random.default_rng(1)
    groups = groups_of(n)
    masked = rng.choice(n, int(n * share), replace=False).tolist()
    label_only = sorted(set(range(n)) - set(masked))
    plain = list(MixedBatchSampler(masked, label_only, 12, 28, groups))
    together = list(MixedBatchSampler(masked, label_only, 12, 28, groups, ensure_positives=True))
    assert lonely_share(plain, groups, masked) > 0.1
    assert lonely_share(together, groups, masked) < 0.001
    seen = {i for batch in together for i in indices(batch[12:])}
    assert len(seen) > 0.9 * len(label_only)


def test_pairs_only():
    """The hardest case: each frame has one fellow, and batches hold few of them."""
    groups = np.arange(200) // 2
    batches = list(MixedBatchSampler([], range(200), 0, 8, groups, ensure_positives=True))
    assert lonely_share(batches, groups, []) == 0
    assert {i for batch in batches for i in indices(batch)} == set(range(200))


def test_a_lone_masked_frame_gets_a_label_only_fellow():
    groups = np.concatenate([np.arange(10), np.repeat(np.arange(10), 9)])  # one masked and nine label-only frames each
    batches = list(MixedBatchSampler(range(10), range(10, 100), 4, 8, groups, ensure_positives=True))
    assert lonely_share(batches, groups, range(10)) == 0


def test_frames_without_fellows_are_drawn_as_ever():
    groups = np.arange(60)
    batches = list(MixedBatchSampler(range(10), range(10, 60), 2, 5, groups, ensure_positives=True))
    assert {i for batch in batches for i in indices(batch[2:])} == set(range(10, 60))


# --- several processes ---


@pytest.mark.parametrize("ensure_positives", [False, True])
def test_processes_share_the_batches_of_one(ensure_positives):
    def sampler(**where) -> list:
        return list(MixedBatchSampler(range(20), range(20, 200), 6, 12, groups_of(200), ensure_positives, **where))

    alone = sampler()
    ranks = [sampler(rank=rank, world_size=3) for rank in range(3)]
    for step, batch in enumerate(alone):
        parts = [rank[step] for rank in ranks]
        assert [len(part) for part in parts] == [6, 6, 6]
        assert [pair for part in parts for pair in part[:2]] == batch[:6]  # two masked frames on each, first
        assert [pair for part in parts for pair in part[2:]] == batch[6:]


def test_rank_and_size_come_from_the_process_group(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    expected = list(MixedBatchSampler(range(8), range(8, 40), 2, 4, rank=1, world_size=2))
    assert list(MixedBatchSampler(range(8), range(8, 40), 2, 4)) == expected


def test_in_a_loader():
    loader = DataLoader(_Echo(), batch_sampler=MixedBatchSampler(range(3), range(3, 9), 1, 2))
    assert [len(batch) for batch in loader] == [3, 3, 3]
    assert len(loader) == 3


class _Echo(torch.utils.data.Dataset):
    def __getitem__(self, key: tuple[int, int]) -> int:
        return key[0]


# --- bad arguments ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"masked": []}, "masked_per_batch=4 but there are no masked frames; set it to 0"),
        ({"label_only": []}, "label_only_per_batch=8 but there are no label_only frames"),
        ({"masked_per_batch": 0, "label_only_per_batch": 0}, "a batch of no frames"),
        ({"masked_per_batch": -1}, "masked_per_batch=-1: give 0 or more"),
        ({"world_size": 3, "rank": 0}, "masked_per_batch=4 does not divide by 3 processes"),
        ({"world_size": 2, "rank": 2}, "rank 2 of 2 processes"),
        ({"label_only": range(5, 30)}, "frame 5 is both masked and label-only"),
        ({"ensure_positives": True}, "ensure_positives needs groups"),
        ({"groups": np.zeros(20), "ensure_positives": True}, "groups has 20 entries, but there is a frame 29"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
    ],
)
def test_bad_arguments(options, words):
    defaults = {"masked": range(10), "label_only": range(10, 30), "masked_per_batch": 4, "label_only_per_batch": 8}
    with pytest.raises(UserError, match=words) as error:
        MixedBatchSampler(**{**defaults, **options})
    assert "\n" not in str(error.value)
