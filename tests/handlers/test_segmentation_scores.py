from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted
from torch.utils.data import DataLoader, Dataset

from lap_monai.checks import UserError
from lap_monai.handlers import SegmentationScores
from lap_monai.label_space import get_label_space
from lap_monai.metrics import FrameScores, class_iou, confusion_matrix, surface_dice

SPACE = get_label_space("endoscapes_7")
CLASSES = SPACE.num_classes


class Frames(Dataset):
    """Random frames whose image channels already are the logits, so that the identity is the network."""

    def __init__(self, count: int = 7) -> None:
        generator = torch.Generator().manual_seed(0)
        self.items = []
        for i in range(count):
            label = torch.randint(CLASSES - 1, (1, 6, 8), generator=generator).to(torch.uint8)  # nobody holds a tool
            label[torch.rand(label.shape, generator=generator) < 0.2] = 255
            logits = torch.randn(CLASSES, 6, 8, generator=generator) + 2 * torch.nn.functional.one_hot(
                label[0].long().clamp(max=CLASSES - 1), CLASSES
            ).permute(2, 0, 1)
            self.items.append({"image": logits, "label": label, "video": f"v{i // 3}", "id": f"v{i // 3}_{i}"})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        return self.items[index]


def evaluate(frames: Dataset, **options: object) -> SupervisedEvaluator:
    """Run a stock evaluator over `frames`; options of the metric and of the evaluator are told apart by name."""
    batch_size = options.pop("batch_size", 3)
    own = {key: options.pop(key) for key in ("nsd_tolerance", "output_transform") if key in options}
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(frames, batch_size=batch_size),
        network=torch.nn.Identity(),
        key_val_metric={"val_mean_iou": SegmentationScores(SPACE, **own)},
        **options,
    )
    evaluator.run()
    return evaluator


def expected_matrices(frames: Frames) -> np.ndarray:
    prediction = torch.stack([item["image"].argmax(0) for item in frames.items])
    return confusion_matrix(prediction, torch.stack([item["label"][0] for item in frames.items]), CLASSES).numpy()


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("decollate", [True, False])
def test_batches_in_any_grouping_give_the_scores_of_all_frames(batch_size: int, decollate: bool) -> None:
    frames = Frames()
    evaluator = evaluate(frames, batch_size=batch_size, decollate=decollate)
    scores = class_iou(expected_matrices(frames).sum(0))
    assert evaluator.state.metrics["val_mean_iou"] == pytest.approx(np.nanmean(scores))
    assert evaluator.state.best_metric == evaluator.state.metrics["val_mean_iou"]
    kept: FrameScores = evaluator.state.metric_details["val_mean_iou"]
    np.testing.assert_array_equal(kept.matrices, expected_matrices(frames))
    assert kept.videos == tuple(item["video"] for item in frames.items)
    assert kept.ids == tuple(item["id"] for item in frames.items)
    assert kept.size == (6, 8)


@pytest.mark.parametrize(
    "post",
    [AsDiscreted("pred", argmax=True), AsDiscreted("pred", argmax=True, to_onehot=CLASSES)],
    ids=["ids", "onehot"],
)
def test_logits_ids_and_one_hot_are_alike(post: Callable) -> None:
    frames = Frames()
    plain, processed = evaluate(frames), evaluate(frames, postprocessing=post)
    assert plain.state.metrics == processed.state.metrics


def test_monai_tensors_with_metadata_are_scored_alike() -> None:
    frames, with_metadata = Frames(), Frames()
    for item in with_metadata.items:
        item["image"], item["label"] = MetaTensor(item["image"]), MetaTensor(item["label"])
    assert evaluate(with_metadata, nsd_tolerance=1.0).state.metrics == evaluate(frames, nsd_tolerance=1.0).state.metrics


def test_classes_that_nobody_holds_have_no_metric() -> None:
    metrics = evaluate(Frames()).state.metrics
    assert "val_iou/Tool" not in metrics
    assert metrics["val_iou/Gallbladder"] == pytest.approx(class_iou(expected_matrices(Frames()).sum(0))[5])


def test_a_second_epoch_starts_anew() -> None:
    evaluator = evaluate(Frames())
    first = dict(evaluator.state.metrics)
    evaluator.run()
    assert evaluator.state.metrics == first
    assert len(evaluator.state.metric_details["val_mean_iou"].ids) == 7


def test_frames_without_masks_are_left_out() -> None:
    frames, fewer = Frames(), Frames()
    frames.items[4]["label"] = torch.full_like(frames.items[4]["label"], 255)
    del fewer.items[4]
    whole, part = evaluate(frames), evaluate(fewer)
    assert whole.state.metrics == part.state.metrics
    assert whole.state.metric_details["val_mean_iou"].ids == part.state.metric_details["val_mean_iou"].ids


def test_no_labelled_pixel_at_all_is_told() -> None:
    frames = Frames(2)
    for item in frames.items:
        item["label"] = torch.full_like(item["label"], 255)
    with pytest.raises(UserError, match="None of the 2 evaluated frames"):
        evaluate(frames)


def test_surface_dice_is_kept_for_each_frame() -> None:
    frames = Frames(3)
    kept = evaluate(frames, nsd_tolerance=1.0).state.metric_details["val_mean_iou"]
    item = frames.items[2]
    expected = surface_dice(item["image"].argmax(0)[None], item["label"], CLASSES, 1.0)[0]
    np.testing.assert_array_equal(kept.nsd[2], expected)
    assert kept.nsd_tolerance == 1.0


def test_unnamed_frames_are_counted_too() -> None:
    frames = Frames(3)
    for item in frames.items:
        del item["video"], item["id"]
    kept = evaluate(frames).state.metric_details["val_mean_iou"]
    assert kept.videos == ("unnamed",) * 3
    assert len(set(kept.ids)) == 3


def _rank(rank: int, shares: list[list[int]], folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    frames = Frames()
    evaluator = evaluate(torch.utils.data.Subset(frames, shares[rank]), batch_size=2)
    kept = evaluator.state.metric_details["val_mean_iou"]
    torch.save({"metrics": evaluator.state.metrics, "ids": sorted(kept.ids)}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_and_padded_shares_agree_with_one(tmp_path: Path) -> None:
    shares = [[0, 2, 4, 6, 0], [1, 3, 5]]  # frame 0 twice, as a padding sampler would
    mp.spawn(_rank, args=(shares, str(tmp_path)), nprocs=2)
    alone = evaluate(Frames())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["metrics"] == pytest.approx(alone.state.metrics)
        assert found["ids"] == sorted(alone.state.metric_details["val_mean_iou"].ids)
