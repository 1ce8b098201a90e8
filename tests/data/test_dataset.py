"""Samples: plain tensors, the right label, a pure function of index and seed, and no mask beyond the budget."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, Lambdad, RandFlipd, RandGaussianNoised, RandRotated, RandZoomd, Transform
from PIL import Image

from lap_monai.checks import UserError
from lap_monai.data import FrameCache, FrameDataset
from lap_monai.label_space import get_label_space
from lap_monai.transforms import RandSurgicalAugmentd

SPACE = get_label_space("cholecseg8k_zhang8")
SIZE = (12, 20)


@pytest.fixture
def rows(write_rows):
    return write_rows(6)


@pytest.fixture
def cache(rows, tmp_path):
    return FrameCache.build(rows, SIZE, tmp_path / "cache")


def augmentations() -> Compose:
    return Compose([RandSurgicalAugmentd(crop=(8, 8), scale=0.2), RandGaussianNoised("image", prob=1.0)])


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, b[key], rtol=0, atol=0, equal_nan=True)
        else:
            assert value == b[key]


def test_a_whole_frame(rows, cache):
    sample = FrameDataset(rows, cache, SPACE)[3]
    assert {key: (v.dtype, tuple(v.shape)) for key, v in sample.items() if isinstance(v, torch.Tensor)} == {
        "image": (torch.float32, (3, *SIZE)),
        "label": (torch.uint8, (1, *SIZE)),
        "classes": (torch.float32, (8,)),
        "phase": (torch.int64, ()),
        "has_mask": (torch.bool, ()),
    }
    assert all(type(v) in (torch.Tensor, str) for v in sample.values())
    assert (sample["video"], sample["id"]) == ("video01", "video01_3")
    torch.testing.assert_close(sample["image"], torch.tensor(cache.image(3) / 255).permute(2, 0, 1).float())
    np.testing.assert_array_equal(sample["label"][0], SPACE.encode(cache.mask(3)))


def test_class_vectors_are_counted_at_native_resolution(rows, tmp_path):
    mask = np.full((24, 40), 50, np.uint8)
    mask[:2, :2] = 31  # 4 pixels of the grasper
    mask[-1, -1] = 255  # ignored, no class
    Image.fromarray(mask).save(rows[0]["label"])
    cache = FrameCache.build(rows, (2, 3), tmp_path / "cache")
    expected = torch.zeros(8)
    expected[SPACE.classes.index("Black Background")] = 1
    assert torch.equal(FrameDataset(rows, cache, SPACE, min_pixels=5)[0]["classes"], expected)
    expected[SPACE.classes.index("Grasper")] = 1
    assert torch.equal(FrameDataset(rows, cache, SPACE, min_pixels=4)[0]["classes"], expected)


def test_without_a_mask_the_classes_are_unknown(write_rows, tmp_path):
    rows = write_rows(2, masks=False)
    dataset = FrameDataset(rows, FrameCache.build(rows, SIZE, tmp_path / "cache"), SPACE)
    sample = dataset[0]
    assert sample["classes"].isnan().all()
    assert not sample["has_mask"]
    assert sample["label"].unique().tolist() == [255]
    assert (dataset.masked, dataset.label_only) == ([], [0, 1])


def test_phases(rows, cache):
    dataset = FrameDataset(rows, cache, SPACE)
    assert [dataset[i]["phase"].item() for i in range(4)] == [0, -1, 0, -1]
    assert dataset.phases.tolist() == [0, -1] * 3


def test_pixels_are_counted_over_the_masks_that_may_be_used(rows, cache):
    budget = [rows[4], rows[1]]
    expected = SPACE.count_pixels(sum(cache.histograms[i] for i in (1, 4)))
    assert FrameDataset(rows, cache, SPACE, use_masks=budget).pixel_counts.tolist() == expected.tolist()
    assert FrameDataset(rows, cache, SPACE, use_masks=False).pixel_counts.sum() == 0


@pytest.mark.parametrize("transform", [None, RandSurgicalAugmentd(crop=(8, 8))])
def test_a_mask_outside_the_budget_is_not_seen_but_its_classes_are(rows, cache, transform):
    budget = [rows[4], rows[1]]
    dataset = FrameDataset(rows, cache, SPACE, transform, use_masks=budget)
    open_dataset = FrameDataset(rows, cache, SPACE, transform)
    assert (dataset.masked, dataset.label_only) == ([1, 4], [0, 2, 3, 5])
    for i in range(6):
        hidden, seen = dataset[i, 7], open_dataset[i, 7]
        assert hidden["has_mask"] == (i in (1, 4))
        assert seen["has_mask"]
        assert torch.equal(hidden["classes"], seen["classes"])
        assert torch.equal(hidden["image"], seen["image"])
        if i in (1, 4):
            assert torch.equal(hidden["label"], seen["label"])
            assert (hidden["label"] != 255).any()
        else:
            assert hidden["label"].unique().tolist() == [255]


def test_no_masks_at_all(rows, cache):
    dataset = FrameDataset(rows, cache, SPACE, use_masks=False)
    assert dataset.masked == []
    assert not dataset[0]["has_mask"]


def test_part_of_a_cache_in_another_order(rows, cache):
    part = FrameDataset([rows[5], rows[2]], cache, SPACE)
    whole = FrameDataset(rows, cache, SPACE)
    assert len(part) == 2
    assert_equal(part[0], whole[5])
    assert_equal(part[1], whole[2])
    assert_equal(part[-1], whole[2])
    with pytest.raises(IndexError):
        part[2]


def test_a_sample_is_a_function_of_index_and_seed(rows, cache):
    dataset = FrameDataset(rows, cache, SPACE, augmentations())
    first = dataset[2, 11]
    dataset[4, 5]
    dataset[1]
    assert_equal(dataset[2, 11], first)
    assert_equal(FrameDataset(rows, cache, SPACE, augmentations())[2, 11], first)
    assert not torch.equal(dataset[2, 12]["image"], first["image"])


def test_without_a_seed_the_transform_goes_on_drawing(rows, cache):
    dataset = FrameDataset(rows, cache, SPACE, augmentations())
    assert not torch.equal(dataset[2]["image"], dataset[2]["image"])


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_give_the_same_samples(rows, cache, context):
    dataset = FrameDataset(rows, cache, SPACE, augmentations())
    batches = [[(0, 3), (4, 8)], [(5, 1), (0, 4)], [(2, 2), (3, 0)]]
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=2, multiprocessing_context=context)
    for batch, keys in zip(loader, batches, strict=True):
        for key in ("image", "label", "classes"):
            expected = torch.stack([dataset[k][key] for k in keys])
            assert type(batch[key]) is torch.Tensor
            assert torch.equal(batch[key], expected)
        assert list(batch["id"]) == [dataset[k]["id"] for k in keys]


def test_stock_transforms_get_unit_range_and_give_plain_tensors(rows, cache):
    seen = []
    transform = Compose(
        [
            Lambdad("image", lambda image: (seen.append(image), image)[1], track_meta=False),
            RandFlipd(["image", "label"], prob=1.0, spatial_axis=1),
            RandRotated(["image", "label"], 1.0, prob=1.0, mode=["bilinear", "nearest"], padding_mode="zeros"),
        ]
    )
    sample = FrameDataset(rows, cache, SPACE, transform)[0, 1]
    assert seen[0].dtype == torch.float32
    assert seen[0].max() <= 1
    assert type(sample["image"]) is type(sample["label"]) is torch.Tensor
    assert (sample["image"].dtype, sample["label"].dtype) == (torch.float32, torch.uint8)
    assert sample["image"].max() <= 1


def test_a_flip_of_bytes_ends_in_unit_range(rows, cache):
    class FlipBytes(Transform):
        accepts_uint8 = True

        def __call__(self, data):
            assert data["image"].dtype == torch.uint8
            return {**data, "image": data["image"].flip(-1), "label": MetaTensor(data["label"].flip(-1))}

    whole = FrameDataset(rows, cache, SPACE)[1]
    for transform in (FlipBytes(), Compose([FlipBytes()])):
        flipped = FrameDataset(rows, cache, SPACE, transform)[1]
        assert torch.equal(flipped["image"], whole["image"].flip(-1))
        assert torch.equal(flipped["label"], whole["label"].flip(-1))
        assert type(flipped["label"]) is torch.Tensor


def test_a_transform_may_write_into_its_input(rows, cache):
    class Blacken(Transform):
        accepts_uint8 = True

        def __call__(self, data):
            data["image"].zero_()
            data["label"].fill_(1)
            data["classes"].fill_(1)
            return data

    before = FrameDataset(rows, cache, SPACE)[0]
    assert FrameDataset(rows, cache, SPACE, Blacken())[0]["image"].max() == 0
    assert_equal(FrameDataset(rows, cache, SPACE)[0], before)


def test_pickled(rows, cache):
    dataset = FrameDataset(rows, cache, SPACE, augmentations())
    assert_equal(pickle.loads(pickle.dumps(dataset))[1, 2], dataset[1, 2])


def test_blended_class_ids(rows, cache):
    transform = RandZoomd(["image", "label"], prob=1.0, min_zoom=1.3, max_zoom=1.4, mode="bilinear")
    with pytest.raises(UserError, match='mode "nearest"'):
        FrameDataset(rows, cache, SPACE, transform)[0, 0]


def test_values_of_another_layout(rows, tmp_path):
    Image.fromarray(np.full((24, 40), 77, np.uint8)).save(rows[4]["label"])
    cache = FrameCache.build(rows, SIZE, tmp_path / "cache")
    with pytest.raises(UserError, match=r"frame_4_mask\.png' holds 77, no value of layout 'cholecseg8k'"):
        FrameDataset(rows, cache, SPACE)
    assert len(FrameDataset(rows[:4], cache, SPACE)) == 4


def test_rows_from_elsewhere(rows, cache):
    stranger = {**rows[0], "image": "elsewhere.png"}
    with pytest.raises(UserError, match=r"elsewhere\.png' is not in the cache"):
        FrameDataset([*rows, stranger], cache, SPACE)
    with pytest.raises(UserError, match=r"frame_4\.png' of the budget is not in this data set"):
        FrameDataset(rows[:3], cache, SPACE, use_masks=rows[4:])


def test_an_empty_part(cache):
    assert len(FrameDataset([], cache, SPACE)) == 0


@pytest.mark.real_data
@pytest.mark.parametrize(("folder", "space"), [("cholecseg8k", "cholecseg8k_13"), ("endoscapes_seg50", "endoscapes_7")])
def test_real_frames(real_data, tmp_path, folder, space):
    from lap_monai.data import read_layout

    rows = read_layout(real_data / folder)[:12]
    dataset = FrameDataset(rows, FrameCache.build(rows, (240, 427), tmp_path), get_label_space(space), augmentations())
    for i in range(len(dataset)):
        sample = dataset[i, i]
        ids = sample["label"].unique().tolist()
        assert sample["has_mask"]
        assert all(sample["classes"][c] == 1 for c in ids if c != 255)
        assert sample["image"].isfinite().all()
