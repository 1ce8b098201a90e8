"""How far an exported network is from the eager one: in numbers, in labels, and in what they are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from lap_monai.inference import Predictor
from lap_monai.keys import IMAGE, LABEL
from lap_monai.metrics import confusion_matrix, iou, miou


class Samples(Protocol):
    """Frames at the network's size: a list, or a data set that reads them when they are asked for."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        """`image` float32 `(3, h, w)` and, where it is known, `label` `(1, h, w)`."""


def parity_report(exported: Predictor, eager: Predictor, samples: Samples) -> dict[str, Any]:
    """Run both networks on the same frames, whole, and compare.

    Args:
        exported: with the engine in question.
        eager: the reference.
        samples: `image` float32 `(3, h, w)`, as the network takes it; `label` `(1, h, w)` in all of them or in none.

    Returns:
        `frames`; `max_abs_difference` of the logits; `label_agreement`, the share of pixels with the same class; and
        with labels `mean_iou` and `iou` by class, each `{"eager", "exported", "change"}` of the pooled IoU in [0, 1],
        without labels None.
    """
    space = eager.bundle.label_space
    largest, same, pixels = 0.0, 0, 0
    counts: dict[str, list[Tensor]] = {"eager": [], "exported": []}
    for index in tqdm(range(len(samples)), desc="comparing", unit="frame", disable=None, leave=False):
        sample = samples[index]
        logits = {
            name: predictor.infer([sample[IMAGE]])[0][0]
            for name, predictor in (("eager", eager), ("exported", exported))
        }
        ids = {name: values.argmax(0) for name, values in logits.items()}
        largest = max(largest, float((logits["eager"] - logits["exported"]).abs().max()))
        same += int((ids["eager"] == ids["exported"]).sum())
        pixels += ids["eager"].numel()
        if LABEL in sample:
            for name, prediction in ids.items():
                counts[name].append(confusion_matrix(prediction[None], sample[LABEL], space.num_classes)[0])
    report: dict[str, Any] = {
        "frames": len(samples),
        "max_abs_difference": largest,
        "label_agreement": same / pixels,
        "mean_iou": None,
        "iou": None,
    }
    if counts["eager"]:
        scores = {name: iou(torch.stack(matrices).numpy()) for name, matrices in counts.items()}
        report["mean_iou"] = _change(miou(scores["eager"]), miou(scores["exported"]))
        values = zip(space.classes, scores["eager"], scores["exported"], strict=True)
        report["iou"] = {name: _change(float(before), float(after)) for name, before, after in values}
    return report


def _change(eager: float, exported: float) -> dict[str, float]:
    return {"eager": eager, "exported": exported, "change": exported - eager}
