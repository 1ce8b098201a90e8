"""Answers of networks about frames, kept in bytes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lap_monai.data import FrameCache, ReplayDataset, SoftTargets, unpack_soft_targets
from lap_monai.label_space import get_label_space
from lap_monai.task_stream import TaskStep
from lap_monai.transforms import RandSurgicalAugmentd

SPACE = get_label_space("endoscapes_7")
STEP = TaskStep(SPACE.classes, ("Tool",), ("Gallbladder",))


@pytest.fixture
def rows(tmp_path: Path) -> list[dict]:
    """Five synthetic frames and, last, a real one."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(6):
        image = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(image)
        row = {"image": str(image), "label": None, "video": "s", "clip": "s", "frame": i, "phase": None}
        rows.append(row)
    mask = tmp_path / "mask.png"
    Image.fromarray(np.full((12, 16), SPACE.classes.index("Gallbladder"), np.uint8)).save(mask)
    rows[-1]["label"] = str(mask)
    return rows


@pytest.fixture
def cache(rows: list[dict], tmp_path: Path) -> FrameCache:
    return FrameCache.build(rows, None, tmp_path / "cache", progress=False)


def networks() -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [torch.nn.Conv2d(3, 2, 1).eval(), torch.nn.Conv2d(3, 3, 1).eval()]


def plainly(images: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
    return network(images)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_answers_are_the_networks_up_to_half_a_step(
    rows: list[dict], cache: FrameCache, tmp_path: Path, sigmoid: bool
) -> None:
    made = SoftTargets.build(rows[:5], cache, networks(), plainly, sigmoid, tmp_path)
    assert made.num_channels == 5
    for i in range(5):
        image = torch.from_numpy(cache.image(i).copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            answers = [network(image)[0] for network in networks()]
        p = torch.cat([a.sigmoid() if sigmoid else a.softmax(0) for a in answers])
        assert (made.of(rows[i]) / 255 - p).abs().max() <= 0.5001 / 255
    assert not made.of(rows[5]).any()


def test_nobody_is_asked_twice_and_another_network_gets_a_file_of_its_own(
    rows: list[dict], cache: FrameCache, tmp_path: Path
) -> None:
    asked = []

    def counting(images: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        asked.append(len(images))
        return network(images)

    first = SoftTargets.build(rows[:5], cache, networks()[:1], counting, directory=tmp_path)
    again = SoftTargets.build(rows[:5], cache, networks()[:1], counting, directory=tmp_path)
    assert sum(asked) == 5
    assert first.path == again.path
    other = SoftTargets.build(rows[:5], cache, networks()[1:], counting, directory=tmp_path)
    fewer = SoftTargets.build(rows[:4], cache, networks()[:1], counting, directory=tmp_path)
    assert len({first.path, other.path, fewer.path}) == 3
    copy = pickle.loads(pickle.dumps(first))
    assert torch.equal(copy.of(rows[2]), first.of(rows[2]))


def test_an_interrupted_asking_leaves_nothing(rows: list[dict], cache: FrameCache, tmp_path: Path) -> None:
    def failing(_images: torch.Tensor, _network: torch.nn.Module) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SoftTargets.build(rows, cache, networks(), failing, directory=tmp_path / "soft")
    assert not list((tmp_path / "soft").glob("*soft*.npy"))


@pytest.mark.parametrize("sigmoid", [False, True])
def test_unpacked_answers_give_the_probabilities_back_and_name_the_border(sigmoid: bool) -> None:
    values = torch.randint(1, 255, (2, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    values[0, :, 0] = 255
    logits, ignore = unpack_soft_targets(values, sigmoid)
    assert ignore.shape == (2, 1, 4, 5)
    assert torch.equal(ignore[0, 0, 0], torch.full((5,), 255, dtype=torch.uint8))
    assert ignore.float().sum() == 5 * 255
    p = logits.sigmoid() if sigmoid else logits.softmax(1)
    expected = values / 255 if sigmoid else values / values.sum(1, keepdim=True)
    torch.testing.assert_close(p[1], expected[1], rtol=1e-4, atol=1e-4)
    certain, _ = unpack_soft_targets(torch.tensor([0, 255, 0], dtype=torch.uint8).view(1, 3, 1, 1), sigmoid)
    assert torch.isfinite(certain).all()


def test_answers_are_augmented_with_their_frame(rows: list[dict], cache: FrameCache, tmp_path: Path) -> None:
    made = SoftTargets.build(rows[:5], cache, networks(), plainly, directory=tmp_path)
    options = {"scale": 0, "blur_prob": 0, "crop": (16, 8), "flip": 1}
    keys, modes = ["image", "label", "soft_targets"], ["bilinear", "nearest", "nearest"]
    augment = RandSurgicalAugmentd(keys, modes, **options)
    dataset = ReplayDataset(rows, cache, SPACE, STEP, made, transform=augment)
    assert (dataset.masked, dataset.label_only) == ([5], [0, 1, 2, 3, 4])
    sample = dataset[2, 7]
    with torch.no_grad():
        answers = torch.cat([network(sample["image"][None])[0].softmax(0) for network in networks()])
    inside = (sample["soft_targets"] != 255).any(0)
    assert inside.sum() == 12 * 8  # four rows of border
    assert (sample["soft_targets"] / 255 - answers)[:, inside].abs().max() <= 0.5001 / 255
    assert (sample["label"] == 255).all()
    real = dataset[5, 7]
    assert (real["label"][0, 2:14] == 2).all()
    assert not real["soft_targets"][:, 2:14].any()
