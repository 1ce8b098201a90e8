"""How sure a teacher usually is about the frames of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from tqdm import tqdm

from lap_monai.keys import IMAGE, LABEL
from lap_monai.losses import EntropyMedians


class EntropyThresholds:
    """Leave `engine.state.entropy_thresholds`, each class's median entropy over the unlabelled pixels of a data set.

    The teacher goes once through the frames when training starts. Of several processes each goes through all of them,
    which saves an exchange and gives all the same thresholds.

    Args:
        teacher: frozen network from images `(B, 3, H, W)` to logits.
        batches: batches of the step's frames with `image` and `label` (0 = unlabelled), without augmentation.
        num_channels: the teacher's.
        infer: how the teacher is applied to whole frames, such as a `SlidingWindowInferer`.
    """

    def __init__(
        self,
        teacher: nn.Module,
        batches: Iterable[dict[str, Any]],
        num_channels: int,
        infer: Callable[[Tensor, nn.Module], Tensor],
    ) -> None:
        self.teacher, self.batches, self.num_channels, self.infer = teacher, batches, num_channels, infer

    def attach(self, engine: Engine) -> None:
        """Measure when the trainer `engine` starts."""
        engine.add_event_handler(Events.STARTED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        medians = EntropyMedians(self.num_channels)
        for batch in tqdm(self.batches, "entropy", delay=2, leave=False, disable=idist.get_rank() > 0):
            logits = self.infer(batch[IMAGE].to(state.device), self.teacher).cpu()
            medians.update(logits, batch[LABEL] == 0)
        state.entropy_thresholds = medians.thresholds().to(state.device)
