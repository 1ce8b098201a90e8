"""Frames as vectors of a given network's encoder; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from lap_monai.networks import encoder_decoder
from lap_monai.replay.frames import Frames, frame_batches

_PROGRESS_DELAY = 2.0  # seconds before the bar shows


@torch.no_grad()
def encoder_features(
    network: nn.Module,
    frames: Frames,
    size: Sequence[int] | None = None,
    scales: int = 3,
    batch_size: int = 16,
    progress: bool = True,
) -> NDArray[np.float32]:
    """Return the encoder's view of frames: maxima of its deepest feature maps, averaged over a frame and its mirror.

    The maxima, because instance normalisation makes the averages of all images alike; with the mirror image, because a
    mirrored copy is a copy.

    Args:
        network: a network that `encoder_decoder` can split, such as a segmentation teacher, in evaluation mode.
        frames: N frames; the network sees them in [0, 1].
        size: `(H, W)` at which the network sees them; None for their own.
        scales: how many of the deepest scales.
        batch_size: frames encoded at once, each twice.
        progress: show a bar if it takes more than two seconds.

    Returns:
        `(N, D)`, D the channels of these scales.

    Raises:
        TypeError: if the network cannot be split.
    """
    encode, _ = encoder_decoder(network)
    device = next(network.parameters()).device
    steps = -(-len(frames) // batch_size)
    vectors: list[Tensor] = []
    for batch in tqdm(
        frame_batches(frames, batch_size), "encoding", steps, disable=not progress, delay=_PROGRESS_DELAY, leave=False
    ):
        image = network_input(batch, size).to(device)
        pooled = [feature.flatten(2).amax(-1) for feature in encode(torch.cat([image, image.flip(-1)]))[-scales:]]
        both = torch.cat(pooled, dim=1).unflatten(0, (2, -1))
        vectors.append(both.mean(0).float().cpu())
    return torch.cat(vectors).numpy()


def network_input(frames: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Return frames `(B, 3, H, W)` uint8 as a network wants them: float32 in [0, 1], each pixel the mean of its area.

    Args:
        frames: the frames.
        size: `(H, W)` to bring them to; None keeps theirs. Enlarging interpolates.
    """
    image = frames.float().div_(255)
    if size is None or tuple(size) == tuple(image.shape[2:]):
        return image
    if size[0] <= image.shape[2] and size[1] <= image.shape[3]:
        return functional.interpolate(image, tuple(size), mode="area")
    return functional.interpolate(image, tuple(size), mode="bilinear", align_corners=False)
