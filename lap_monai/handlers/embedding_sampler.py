"""What the encoder makes of the evaluated frames, for the report's embedding plot."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from lap_monai.data import PHASES
from lap_monai.handlers.batch_values import batch_values
from lap_monai.keys import IMAGE, PHASE, VIDEO
from lap_monai.networks import MultiTaskSegmenter, encoder_decoder
from lap_monai.reports import Embedding


class EmbeddingSampler:
    """Collect, per scale, the encoder's features of evaluated frames, each map pooled to a vector by its maxima.

    The maxima, because instance normalisation makes the averages of all images alike.

    Args:
        network: a network that `lap_monai.networks.encoder_decoder` can split, or a `MultiTaskSegmenter` of one.
        scales: how many of the deepest scales.
        limit: about how many frames; they are spread evenly over the set.
    """

    def __init__(self, network: nn.Module, scales: int = 3, limit: int = 400) -> None:
        # FlexibleUNet has a `backbone` too: a name.
        self.network = network.backbone if isinstance(network, MultiTaskSegmenter) else network
        self.scales = scales
        self.limit = limit
        self._vectors: list[list[Tensor]] = [[] for _ in range(scales)]
        self._phases: list[str] = []
        self._videos: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Collect from the evaluator `engine`; each run starts anew."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._collect)

    def embeddings(self) -> dict[str, Embedding]:
        """Return scale name → vectors, grouped by phase where phases are known, else by video; empty before a run."""
        known = any(name != "unknown" for name in self._phases)
        groups = self._phases if known else self._videos
        return {
            f"encoder scale {k + 1} of {self.scales}": Embedding(torch.cat(parts).numpy(), groups)
            for k, parts in enumerate(self._vectors)
            if parts and len(groups) == sum(map(len, parts))
        }

    def _start(self, _engine: Engine) -> None:
        self._vectors = [[] for _ in range(self.scales)]
        self._phases, self._videos = [], []

    def _collect(self, engine: Engine) -> None:
        state: Any = engine.state
        image = state.output[IMAGE]
        stride = max(1, (state.epoch_length or 1) * len(image) // self.limit)
        if (state.iteration - 1) % stride:
            return
        encode, _ = encoder_decoder(self.network)
        with torch.no_grad():
            features = encode(image)[-self.scales :]
        for parts, feature in zip(self._vectors, features, strict=True):
            parts.append(feature.flatten(2).amax(-1).float().cpu())
        self._phases += [PHASES[k] if k >= 0 else "unknown" for k in batch_values(state.batch, PHASE)]
        self._videos += [str(name) for name in batch_values(state.batch, VIDEO)]
