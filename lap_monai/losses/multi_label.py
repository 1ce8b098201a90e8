"""Image-level multi-label classification loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lap_monai.checks import require_choice
from lap_monai.losses.precision import full_precision


class MultiLabelLoss(nn.Module):
    """Binary cross-entropy of every class of every image (Zhang et al. 2024, eq. 5, with the bracket that it lacks).

    Deviation: eq. 5 sums over the images too (`reduction="sum"`); the default averages over them, so that the weight of
    the term does not depend on the batch size.

    Args:
        reduction: `"batch"`, the sum over the classes averaged over the images; `"sum"` over both; `"mean"` over both.
    """

    def __init__(self, reduction: str = "batch") -> None:
        super().__init__()
        self.reduction = require_choice(reduction, ("batch", "sum", "mean"), "reduction of MultiLabelLoss")

    def forward(self, class_logits: Tensor, classes: Tensor) -> Tensor:
        """Return the loss, a scalar; zero and connected to the graph for an empty batch.

        Args:
            class_logits: scores before the sigmoid, `(B, C)`.
            classes: multi-hot class vectors `(B, C)`, 0 or 1.

        Raises:
            ValueError: if the shapes differ.
        """
        if class_logits.ndim != 2 or class_logits.shape != classes.shape:
            raise ValueError(
                "MultiLabelLoss: expected class_logits and classes of one shape (B, C), "
                f"got {tuple(class_logits.shape)} and {tuple(classes.shape)}."
            )
        scores = full_precision(class_logits)
        total = F.binary_cross_entropy_with_logits(scores, classes.to(scores.dtype), reduction="sum")
        divisor = {"batch": len(classes), "sum": 1, "mean": classes.numel()}[self.reduction]
        return total / max(divisor, 1)
