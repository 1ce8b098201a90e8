"""Two views of each frame."""

from __future__ import annotations

import pytest
import torch
from tiny_data import write_cholecseg8k

from lap_monai.data import FrameCache, FrameDataset, TwoViews, read_layout
from lap_monai.label_space import get_label_space
from lap_monai.transforms import RandSurgicalAugmentd


@pytest.fixture(scope="module")
def make_dataset(tmp_path_factory: pytest.TempPathFactory):
    root = write_cholecseg8k(tmp_path_factory.mktemp("data"), {(1, 0): [0, 1, 2]})
    rows = read_layout(root, "cholecseg8k")
    cache = FrameCache.build(rows, (24, 32), tmp_path_factory.mktemp("cache"), progress=False)

    def make(count: int = 3, jitter: float = 0.0, **options) -> FrameDataset:
        augment = RandSurgicalAugmentd(crop=(16, 16), jitter={"brightness": jitter} if jitter else None)
        space = get_label_space("cholecseg8k_zhang8")
        return FrameDataset(rows[:count], cache, space, transform=augment, **options)

    return make


def test_a_sample_is_that_of_the_dataset_with_another_view(make_dataset):
    dataset = make_dataset()
    views = TwoViews(dataset, make_dataset())
    assert len(views) == 3
    for key in ((0, 5), (2, 2**32 - 1)):
        sample, alone = views[key], dataset[key]
        assert sample.keys() == alone.keys() | {"view"}
        assert torch.equal(sample["image"], alone["image"])
        assert torch.equal(sample["label"], alone["label"])
        assert sample["view"].shape == sample["image"].shape
        assert sample["view"].dtype == torch.float32
        assert not torch.equal(sample["view"], sample["image"])


def test_a_sample_is_a_function_of_index_and_seed(make_dataset):
    first, second = (TwoViews(make_dataset(), make_dataset()) for _ in range(2))
    first[0, 1], first[1, 7]  # what came before does not matter
    assert torch.equal(first[2, 9]["view"], second[2, 9]["view"])
    assert not torch.equal(first[2, 9]["view"], first[2, 10]["view"])


def test_without_a_seed_views_differ_too(make_dataset):
    sample = TwoViews(make_dataset(), make_dataset())[1]
    assert sample["view"].shape == (3, 16, 16)


def test_the_second_view_may_have_its_own_transform(make_dataset):
    plain = TwoViews(make_dataset(), make_dataset())[0, 3]
    bright = TwoViews(make_dataset(), make_dataset(jitter=0.9))[0, 3]
    assert torch.equal(plain["image"], bright["image"])
    assert not torch.allclose(plain["view"].mean(), bright["view"].mean(), atol=1e-3)


def test_refuses_data_sets_of_other_frames(make_dataset):
    with pytest.raises(ValueError, match="the same frames"):
        TwoViews(make_dataset(), make_dataset(2))
