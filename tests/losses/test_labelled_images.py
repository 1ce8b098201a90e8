"""Supervised losses in batches that also hold images without labels."""

from __future__ import annotations

import pytest
import torch

from lap_monai.losses import LabelledImagesLoss, MarginalSegmentationLoss, NoLoss


def test_images_without_labels_do_not_dilute_the_loss() -> None:
    logits = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    label = torch.randint(3, (4, 1, 5, 5), generator=torch.Generator().manual_seed(0))
    label[3] = 255
    labelled = torch.tensor([True, True, True, False])
    loss = MarginalSegmentationLoss()
    value = LabelledImagesLoss(loss)(labelled, logits, label)
    assert value == loss(logits[:3], label[:3])
    value.backward()
    assert not logits.grad[3].any()
    with pytest.raises(ValueError, match="labels first"):
        LabelledImagesLoss(loss)(~labelled, logits, label)


def test_no_loss_is_zero_and_connected() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = NoLoss()(logits, torch.zeros(2, 1, 4, 4))
    value.backward()
    assert value == 0
    assert not logits.grad.any()
