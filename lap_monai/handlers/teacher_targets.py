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
    | `expert_logits` | `(U, 1 + new, H, W)` of the images without mask, the last U of the batch; None without expert |
    | `teacher_ignore` | `(B, 1, H, W)`, 255 where nothing is known; None if something is everywhere |

    Images whose answers the batch brings along (`SoftTargets`) are not put to the networks.

    Args:
        teacher: frozen network of the earlier steps' classes, on the engine's device.
        expert: frozen network of this step's new classes alone; or None.
        features: whether to leave the encoder's maps too, for a teacher that `encoder_decoder` can split.
        sigmoid: whether the networks' channels are sigmoids of their own.
    """

    def __init__(
        self, teacher: nn.Module, expert: nn.Module | None = None, features: bool = False, sigmoid: bool = False
    ) -> None:
        self.teacher, self.expert = teacher, expert
        self.features = features
        self.sigmoid = sigmoid

    def attach(self, engine: Engine) -> None:
        """Ask after each forward pass of the trainer `engine`."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        image, has_mask = engine_values(engine, (IMAGE, HAS_MASK))
        count = labelled_first(has_mask)
        state.teacher_features, state.expert_logits, state.teacher_ignore = (), None, None
        if SOFT_TARGETS in state.batch and count < len(image):
            self._use_soft_targets(engine, image, count)
            return
        state.teacher_logits, state.teacher_features = self._ask_teacher(image)
        if self.expert is not None:
            state.expert_logits = self.expert(image[count:]) if count < len(image) else None

    def _ask_teacher(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        if not self.features:
            return self.teacher(image), ()
        encode, decode = encoder_decoder(self.teacher)
        features = tuple(encode(image))
        return decode(list(features)), features

    def _use_soft_targets(self, engine: Engine, image: Tensor, count: int) -> None:
        state: Any = engine.state
        (soft,) = engine_values(engine, (SOFT_TARGETS,))
        logits, ignore = unpack_soft_targets(soft[count:], self.sigmoid)
        if count:
            answer = self.teacher(image[:count])
            known = answer.shape[1]
            state.teacher_logits = torch.cat([answer.to(logits.dtype), logits[:, :known]])
        else:
            known = logits.shape[1] if self.expert is None else _channels(self.teacher, image)
            state.teacher_logits = logits[:, :known]
        if self.expert is not None:
            state.expert_logits = logits[:, known:]
        state.teacher_ignore = torch.cat([ignore.new_zeros((count, *ignore.shape[1:])), ignore])


def _channels(network: nn.Module, image: Tensor) -> int:
    return int(network(image[:1]).shape[1])
