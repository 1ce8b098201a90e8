"""The comparison of two forms of a network, against sums over pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lap_monai.inference import Bundle, Predictor, TorchEngine
from lap_monai.packaging import parity_report


@pytest.fixture
def pair(tiny_run: Path) -> tuple[Predictor, Predictor]:
    """A network, and the same with another preference for the classes."""
    bundle = Bundle.open(tiny_run)
    other = bundle.build_network()
    with torch.no_grad():
        other.final_conv.bias += torch.linspace(-0.5, 0.5, 8)
    return Predictor(bundle, "frame", TorchEngine(other)), Predictor(
        bundle, "frame", TorchEngine(bundle.build_network())
    )


def samples(labelled: bool) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    frames = []
    for _ in range(3):
        label = torch.randint(0, 6, (1, 40, 50), generator=generator).to(torch.uint8)  # two classes are in no frame
        label[:, :5] = 255
        image = {"image": torch.rand(3, 40, 50, generator=generator)}
        frames.append(image | ({"label": label} if labelled else {}))
    return frames


def classes(predictor: Predictor, frames: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.stack([predictor.infer([frame["image"]])[0][0].argmax(0) for frame in frames])


def test_counts_what_differs(pair):
    exported, eager = pair
    frames = samples(labelled=True)
    report = parity_report(exported, eager, frames)
    found, expected = classes(exported, frames), classes(eager, frames)
    assert report["frames"] == 3
    assert report["max_abs_difference"] == pytest.approx(0.5, abs=1e-5)
    assert report["label_agreement"] == pytest.approx((found == expected).double().mean().item())
    truth = torch.cat([frame["label"] for frame in frames])
    counted = truth != 255
    values = []
    for index, name in enumerate(eager.bundle.label_space.classes):
        score = report["iou"][name]
        hit = ((found == index) & (truth == index) & counted).sum().item()
        union = (((found == index) | (truth == index)) & counted).sum().item()
        if index < 6:
            assert score["exported"] == pytest.approx(hit / union)
            assert score["change"] == pytest.approx(score["exported"] - score["eager"])
            values.append(score["exported"])
        else:  # absent from the truth: no score
            assert score["exported"] != score["exported"]
    assert report["mean_iou"]["exported"] == pytest.approx(sum(values) / 6)


def test_the_same_network_differs_in_nothing(pair):
    report = parity_report(pair[1], pair[1], samples(labelled=True))
    assert report["max_abs_difference"] == 0
    assert report["label_agreement"] == 1
    assert report["mean_iou"]["change"] == 0


def test_without_labels_there_are_no_scores(pair):
    report = parity_report(*pair, samples(labelled=False))
    assert report["iou"] is None
    assert report["mean_iou"] is None
    assert report["label_agreement"] < 1
