"""A trained segmentation network as judge of synthetic images: what they show, how sure it is, how it sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from lap_monai.replay.features import encoder_features, network_input
from lap_monai.replay.frames import Frames, frame_batches

_BATCH = 8
_PROGRESS_DELAY = 2.0  # seconds before the bar shows

#: Images `(B, 3, H, W)` and a network → logits `(B, K, H, W)`; one of MONAI's inferers.
Inferer = Callable[[Tensor, nn.Module], Tensor]


@dataclass(frozen=True)
class Teacher:
    """A network and how it is to be used.

    Args:
        network: frozen, in evaluation mode, see `lap_monai.networks.load_teacher`; `encoder_decoder` can split it.
        inferer: MONAI inferer, as in the network's `inference.json`.
        size: `(H, W)` at which the network sees frames.
        scales: how many of the deepest encoder scales make a frame's features.
    """

    network: nn.Module
    inferer: Inferer
    size: tuple[int, int]
    scales: int = 3

    def features(self, frames: Frames) -> NDArray[np.float32]:
        """Return the encoder's view `(N, D)` of N frames, see `encoder_features`."""
        return encoder_features(self.network, frames, self.size, self.scales)

    @torch.no_grad()
    def probabilities(self, frames: Tensor) -> Tensor:
        """Return class probabilities `(B, K, H, W)`, at their own size, of frames `(B, 3, H, W)` uint8."""
        device = next(self.network.parameters()).device
        logits = self.inferer(network_input(frames, self.size).to(device), self.network)
        probabilities = logits.float().softmax(1).cpu()
        if probabilities.shape[2:] == frames.shape[2:]:
            return probabilities
        size = (frames.shape[2], frames.shape[3])
        return functional.interpolate(probabilities, size, mode="bilinear", align_corners=False)

    def each(self, frames: Frames, task: str) -> Iterator[Tensor]:
        """Yield the class probabilities `(K, H, W)` of frames one by one, in order; `task` names the progress bar."""
        with tqdm(total=len(frames), desc=task, unit="frame", delay=_PROGRESS_DELAY, leave=False) as bar:
            for batch in frame_batches(frames, _BATCH):
                yield from self.probabilities(batch)
                bar.update(len(batch))


def confidence(probabilities: Tensor) -> Tensor:
    """Return how sure a teacher is of each image, `(B,)` in [1 / K, 1]: the mean of its pixels' highest probability."""
    return probabilities.amax(1).flatten(1).mean(1)
