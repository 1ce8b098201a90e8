"""Batches whose augmentation is left to the device."""

from __future__ import annotations

import pytest
import torch
from tiny_data import write_cholecseg8k
from torch.utils.data import DataLoader

from lap_monai.checks import UserError
from lap_monai.data import FrameBatches, FrameCache, FrameDataset, MixedBatchSampler, TwoViews, read_layout
from lap_monai.handlers import PrepareMixedBatch
from lap_monai.label_space import get_label_space
from lap_monai.transforms import RandSurgicalAugmentd


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FrameDataset:
    """Six frames, of which two may show their masks."""
    root = write_cholecseg8k(tmp_path_factory.mktemp("data"), {(1, 0): [0, 1, 2], (2, 0): [0, 1, 2]})
    rows = read_layout(root, "cholecseg8k")
    cache = FrameCache.build(rows, (24, 32), tmp_path_factory.mktemp("cache"), progress=False)
    augment = RandSurgicalAugmentd(crop=(28, 20))
    return FrameDataset(rows, cache, get_label_space("cholecseg8k_zhang8"), augment, use_masks=rows[1:3])


@pytest.mark.parametrize("workers", [0, 1])
def test_what_reaches_the_network_is_what_the_data_set_gives(dataset: FrameDataset, workers: int) -> None:
    """Sample by sample, hence equal in distribution: the seeds draw the same augmentations."""
    sampler = MixedBatchSampler(dataset.masked, dataset.label_only, 2, 3, steps_per_epoch=3)
    usual = list(DataLoader(dataset, batch_sampler=sampler))
    sampler.set_epoch(0)
    loader = DataLoader(FrameBatches(dataset), sampler=sampler, batch_size=None, num_workers=workers)
    prepare = PrepareMixedBatch()
    for one_by_one, batch in zip(usual, loader, strict=True):
        assert batch["image"].dtype == torch.uint8
        expected, given = (prepare(data, torch.device("cpu")) for data in (one_by_one, batch))
        torch.testing.assert_close(given[0], expected[0], rtol=0, atol=1.02 / 255)
        assert torch.equal(given[1], expected[1])
        assert given[3] == expected[3] == {"decode": 2}
        for key in ("classes", "phase", "has_mask"):
            assert torch.equal(batch[key], one_by_one[key])
        assert batch["id"] == one_by_one["id"]


def test_other_transforms_are_refused(dataset: FrameDataset) -> None:
    plain = FrameDataset(dataset.rows, dataset.cache, dataset.label_space)
    for other in (plain, TwoViews(dataset, dataset)):
        with pytest.raises(UserError, match="by RandSurgicalAugmentd alone, not by NoneType"):
            FrameBatches(other)
