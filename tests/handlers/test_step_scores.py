"""Scores of a step under partial labels, against counting pixels in loops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from lap_monai.files import read_json
from lap_monai.handlers import StepResults, StepScores, channel_space
from lap_monai.label_space import get_label_space
from lap_monai.task_stream import Knowledge, TaskStep, complete_knowledge

SPACE = get_label_space("endoscapes_7")
STEP = TaskStep(SPACE.classes, ("Tool", "Cystic Duct"), ("Gallbladder",))


class Prepared(torch.nn.Module):
    """A network whose input is its answer."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


@pytest.fixture(scope="module")
def frames() -> list[dict]:
    """Six frames of three patients; what is known differs from frame to frame; nothing shows a duct."""
    generator = torch.Generator().manual_seed(0)
    known = [(0, 0, 2), (2, 0, 0), (1, 1, 2), (2, 2, 2), (0, 0, 0), (0, 2, 0)]
    frames = []
    for i, vector in enumerate(known):
        drawn = [0, *(c + 1 for c, value in enumerate(vector) if value == Knowledge.MASK and c != 1)]
        label = torch.tensor(drawn)[torch.randint(len(drawn), (1, 6, 6), generator=generator)].to(torch.uint8)
        label[:, 0] = 255
        knowledge = torch.from_numpy(complete_knowledge([0, *vector]))
        image = torch.randn(4, 6, 6, generator=generator)
        frames.append(
            {"image": image, "label": label, "knowledge": knowledge, "video": f"v{i % 3}", "id": f"v{i % 3}_{i}"}
        )
    return frames


def pooled(frames: list[dict]) -> list[tuple[float, float]]:
    """IoU and Dice of each channel over the pixels where it is known; NaN where the truth has none."""
    scores = []
    for channel in range(4):
        tp = fp = fn = 0
        for frame in frames:
            said = int(frame["knowledge"][channel]) != Knowledge.UNKNOWN
            predicted = frame["image"].argmax(0).flatten().tolist()
            for truth, guess in zip(frame["label"].flatten().tolist(), predicted, strict=True):
                if truth != 255 and (truth != 0 or said):
                    tp += truth == channel and guess == channel
                    fp += truth != channel and guess == channel
                    fn += truth == channel and guess != channel
        present = tp + fn > 0
        scores.append((tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn)) if present else (math.nan, math.nan))
    return scores


def union_dice(frame: dict, channel: int) -> float:
    """Dice of a channel in a frame where it is known; NaN where it is neither true nor predicted."""
    said = int(frame["knowledge"][channel]) != Knowledge.UNKNOWN
    predicted, label = frame["image"].argmax(0).flatten().tolist(), frame["label"].flatten().tolist()
    pairs = [(t, p) for t, p in zip(label, predicted, strict=True) if t != 255 and (t != 0 or said)]
    both = sum(t == p == channel for t, p in pairs)
    either = sum(t == channel for t, _ in pairs) + sum(p == channel for _, p in pairs)
    return 2 * both / either if either else math.nan


@pytest.fixture(params=[1, 4])
def evaluator(request: pytest.FixtureRequest, frames: list[dict], tmp_path: Path) -> SupervisedEvaluator:
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(frames, batch_size=request.param),
        network=Prepared(),
        key_val_metric={"score": StepScores(SPACE, STEP)},
        val_handlers=[StepResults(tmp_path, STEP, {"method": "none"}, {"kept": 1})],
        decollate=False,
    )
    engine.run()
    return engine


def test_each_class_is_judged_where_it_is_known(evaluator: SupervisedEvaluator, frames: list[dict]) -> None:
    expected = [iou for iou, _ in pooled(frames)]
    metrics = evaluator.state.metrics
    assert metrics["score"] == pytest.approx(np.nanmean(expected[1:]))
    for name, value in zip(STEP.channels, expected, strict=True):
        assert metrics.get(f"val_iou/{name}", math.nan) == pytest.approx(value, nan_ok=True)
    assert "val_iou/Cystic Duct" not in metrics


def test_results_name_every_class_and_leave_absent_ones_empty(
    evaluator: SupervisedEvaluator, frames: list[dict], tmp_path: Path
) -> None:
    results = read_json(tmp_path / "results.json")
    (row,) = results["rows"]
    assert results["config"] == {"kept": 1}
    assert row["method"] == "none"
    for name, (iou, dice) in zip(STEP.channels, pooled(frames), strict=True):
        assert row["iou"][name] == (None if math.isnan(iou) else pytest.approx(iou))
        assert row["dice"][name] == (None if math.isnan(dice) else pytest.approx(dice))
    assert row["absent"] == ["Cystic Duct"]
    assert row["miou_old"] == row["iou"]["Tool"]
    assert row["miou_new"] == row["iou"]["Gallbladder"]
    videos = {name: [f for f in frames if f["video"] == name] for name in ("v0", "v1", "v2")}
    by_video = [pooled(mine)[3][0] for mine in videos.values()]
    assert row["per_video"]["iou"]["Gallbladder"] == pytest.approx(np.nanmean(by_video))
    for name, mine in videos.items():
        entry = row["per_video"]["videos"][name]
        expected = [iou for iou, _ in pooled(mine)]
        assert [math.nan if v is None else v for v in entry["iou"].values()] == pytest.approx(expected, nan_ok=True)
        assert entry["miou"] == pytest.approx(np.nanmean(expected[1:]))
        assert entry["n_frames"] == 2
    by_frame = [dice for frame in frames for dice in [union_dice(frame, 3)] if not math.isnan(dice)]
    assert row["per_image"]["dice"]["Gallbladder"] == pytest.approx(np.mean(by_frame))
    assert (row["n_frames"], row["n_videos"]) == (6, 3)
    assert len((tmp_path / "frames.csv").read_text().splitlines()) == 7


def test_a_channel_space_has_the_colours_of_its_classes() -> None:
    space = channel_space(SPACE, STEP)
    assert space.classes == ("Background", "Tool", "Cystic Duct", "Gallbladder")
    assert [SPACE.colours[SPACE.classes.index(name)] for name in space.classes] == list(space.colours)
    assert space.encode(np.array([0, 3, 255, 9], np.uint8)).tolist() == [0, 3, 255, 255]
