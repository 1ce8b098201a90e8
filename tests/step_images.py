"""Logits and labels of a few small images in an incremental step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lap_monai.task_stream import TaskStep

CLASSES = ("background", "colon", "liver", "spleen", "ureter")

#: Two old classes, two new ones; only old ones; only new ones; one and one.
STEP = TaskStep(CLASSES, old=("liver", "ureter"), new=("spleen", "colon"))
NO_NEW = TaskStep(CLASSES, old=("liver", "ureter"), new=())
NO_OLD = TaskStep(CLASSES, old=(), new=("spleen", "colon"))
ONE_EACH = TaskStep(CLASSES, old=("liver",), new=("colon",))
STEPS = [STEP, NO_NEW, NO_OLD, ONE_EACH]


class StepImages(NamedTuple):
    """Student, teacher and labels of three images of 4x5 pixels."""

    logits: Tensor
    teacher: Tensor
    label: Tensor  #: 0 or a new channel; 255 in a column


def make_images(step: TaskStep = STEP, images: int = 3, seed: int = 0) -> StepImages:
    """Random images of a step, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, step.num_channels, 4, 5, generator=generator, dtype=torch.float64)
    teacher = torch.randn(images, 1 + len(step.old), 4, 5, generator=generator, dtype=torch.float64) * 2
    values = torch.tensor([0, 0, *step.new_channels])
    label = values[torch.randint(len(values), (images, 1, 4, 5), generator=generator)]
    label[..., 0] = 255
    return StepImages(logits, teacher, label)


def pixels(maps: Tensor) -> list[list[float]]:
    """The pixels of maps `(B, C, H, W)`, each a list of its channels."""
    return maps.movedim(1, -1).flatten(0, -2).tolist()
