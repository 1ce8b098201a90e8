"""What the channels of a network are, and losses that only make sense for one of the two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lap_monai.checks import UserError, require_choice

#: One probability over all channels, or one for each.
HEADS = ("softmax", "sigmoid")


def require_head(head: str, losses: Iterable[Any]) -> None:
    """Compare a network's head with those of its losses; a loss says which by its attribute `head`, if it matters.

    Args:
        head: `"softmax"` or `"sigmoid"`.
        losses: of the network's logits.

    Raises:
        UserError: if one of them is for the other head.
    """
    require_choice(head, HEADS, "head")
    for loss in losses:
        wanted = getattr(loss, "head", head)
        if wanted != head:
            remedy = "add sigmoid.json before it, in every step" if wanted == "sigmoid" else "drop sigmoid.json"
            raise UserError(
                f"{type(loss).__name__} is a loss of {wanted} channels, and this network's head is {head!r}; {remedy}, "
                "or choose another method."
            )
