"""Losses of one kind of head on the other."""

from __future__ import annotations

import pytest
from step_images import STEP

from lap_monai.checks import UserError
from lap_monai.losses import (
    FocalLoss,
    MarginalSegmentationLoss,
    MaskedSigmoidLoss,
    OldClassDistillationLoss,
    PseudoLabelLoss,
    ReplayDistillationLoss,
    SigmoidReplayDistillationLoss,
    UnbiasedDistillationLoss,
    require_head,
)

SOFTMAX = [
    MarginalSegmentationLoss(),
    PseudoLabelLoss(STEP),
    OldClassDistillationLoss(STEP),
    UnbiasedDistillationLoss(STEP),
    ReplayDistillationLoss(STEP),
]
SIGMOID = [MaskedSigmoidLoss(), SigmoidReplayDistillationLoss(STEP)]


def test_losses_go_with_their_head():
    require_head("softmax", SOFTMAX)
    require_head("sigmoid", SIGMOID)
    require_head("sigmoid", [FocalLoss()])  # says nothing of a head


@pytest.mark.parametrize(
    ("head", "loss"),
    [*(("sigmoid", loss) for loss in SOFTMAX), *(("softmax", loss) for loss in SIGMOID)],
    ids=lambda value: type(value).__name__,
)
def test_the_other_head_is_refused_in_one_line_with_a_remedy(head, loss):
    with pytest.raises(UserError, match=type(loss).__name__) as caught:
        require_head(head, [FocalLoss(), loss])
    assert "\n" not in str(caught.value)
    assert ("drop sigmoid.json" in str(caught.value)) == (head == "sigmoid")


def test_a_head_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="Did you mean 'softmax'"):
        require_head("sofmax", [])
