"""What earlier networks say about a batch, each asked once."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from lap_monai.data import unpack_soft_targets
from lap_monai.handlers.engine_values import engine_values
from lap_monai.keys import HAS_MASK, IMAGE, SOFT_TARGETS
from lap_monai.losses import labelled_first
from lap_monai.networks import encoder_decoder


class TeacherTargets:
    """Leave a teacher's answers on `engine.state`, for any number of losses, at one forward pass an image at most.

    | attribute | value |
    |---|---|
    | `teacher_logits` | `(B, 1 + old, H, W)` |
    | `teacher_features` | the teacher's encoder maps, finest first, where `features` is true |
    | `expert_logits` | `(E, 1 + new, H, W)` of the last E images, about which the expert is asked; None without it |
    | `teacher_ignore` | `(B, 1, H, W)`, 255 where nothing is known; None if something is everywhere |

    Images whose answers the batch brings along (`SoftTargets`) are not put to the networks.

    Args:
        teacher: frozen network of the earlier steps' classes, on the engine's device.
        expert: frozen network of this step's new classes alone; or None.
        features: whether to leave the encoder's maps too, for a teacher that `encoder_decoder` can split.
        sigmoid: whether the networks' channels are sigmoids of their own.
        expert_on_real: whether the expert is asked about images with masks as well, of which a mask may show one class
            and leave the others open.
    """

    def __init__(
        self,
        teacher: nn.Module,
        expert: nn.Module | None = None,
        features: bool = False,
        sigmoid: bool = False,
        expert_on_real: bool = False,
    ) -> None:
        self.teacher, self.expert = teacher, expert
        self.features = features
        self.sigmoid = sigmoid
        self.expert_on_real = expert_on_real
        self._teacher_channels: int | None = None

    def attach(self, engine: Engine) -> None:
        """Ask after each forward pass of the trainer `engine`."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        image, has_mask = engine_values(engine, (IMAGE, HAS_MASK))
        masked = labelled_first(has_mask)
        told = self._at_hand(engine, image)
        asked = len(image) - len(told)
        logits, state.teacher_features = self._ask_teacher(image[:asked]) if asked else (None, ())
        if logits is not None:
            self._teacher_channels = logits.shape[1]
        known = self._channels(image)
        answers, ignore = unpack_soft_targets(told, self.sigmoid)
        state.teacher_logits = _joined(logits, answers[:, :known])
        state.teacher_ignore = _joined(ignore.new_zeros((asked, *ignore.shape[1:])), ignore) if len(told) else None
        state.expert_logits = None
        first = 0 if self.expert_on_real else masked
        if self.expert is not None and first < len(image):
            expert = self.expert(image[first:asked]) if first < asked else None
            state.expert_logits = _joined(expert, answers[max(first - asked, 0) :, known:])

    def _at_hand(self, engine: Engine, image: Tensor) -> Tensor:
        """The answers `(U, K, H, W)` that the batch brings along, about its last U images; others have zeros."""
        state: Any = engine.state
        if SOFT_TARGETS not in state.batch:
            return image.new_zeros((0, 2, 1, 1), dtype=torch.uint8)
        (soft,) = engine_values(engine, (SOFT_TARGETS,))
        return soft[len(soft) - labelled_first(soft.flatten(1).any(dim=1).flip(0)) :]

    def _ask_teacher(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        if not self.features:
            return self.teacher(image), ()
        encode, decode = encoder_decoder(self.teacher)
        features = tuple(encode(image))
        return decode(list(features)), features

    def _channels(self, image: Tensor) -> int:
        if self._teacher_channels is None:
            self._teacher_channels = int(self.teacher(image[:1]).shape[1])
        return self._teacher_channels


def _joined(first: Tensor | None, second: Tensor) -> Tensor:
    """Images that were asked about, then those with answers at hand."""
    if first is None or not len(first):
        return second
    return torch.cat([first.to(second.dtype), second]) if len(second) else first
