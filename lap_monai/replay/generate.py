"""Fill a synthetic set, or draw some of it again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import ignite.distributed as idist
import numpy as np
import torch
from tqdm import tqdm

from lap_monai.checks import UserError
from lap_monai.replay.generator import FrameGenerator
from lap_monai.replay.synthetic_set import SyntheticSet, image_seed

__all__ = ["generate_set", "verify_set"]


def generate_set(generator: FrameGenerator, folder: str | Path, count: int, seed: int = 0) -> int:
    """Bring the set in `folder` to `count` images: start it, continue it after an interruption, or extend it.

    Of several processes each draws its share, rank 0 writes. The set is the same for any number of them.

    Args:
        generator: all of a set's images come from the same, drawn the same way.
        folder: of the set.
        count: images wanted in all; a set that has as many is left alone.
        seed: base of the images' seeds.

    Returns:
        The number of images in the set.

    Raises:
        UserError: if the folder holds something else or a set made otherwise, or the disk is full.
    """
    if count < 1:
        raise UserError(f"count={count}: give at least one image.")
    rank, ranks = idist.get_rank(), idist.get_world_size()
    synthetic = SyntheticSet.create(folder, generator.origin(), generator.method(), seed) if rank == 0 else None
    done = int(cast(float, idist.broadcast(len(synthetic) if synthetic is not None else 0, src=0)))
    batch = generator.batch_size
    with tqdm(total=count, initial=done, desc="drawing", unit="image", disable=rank > 0, file=sys.stderr) as bar:
        while done < count:
            seeds = [image_seed(seed, done + rank * batch + i) for i in range(batch)]
            drawn = _gather(generator.draw(seeds), generator.device)[: count - done]
            if synthetic is not None:
                synthetic.extend(drawn)
            done += len(drawn)
            bar.update(len(drawn))
    if ranks > 1:
        idist.barrier()
    return done


def verify_set(generator: FrameGenerator, folder: str | Path, sample: int = 16, tolerance: int = 0) -> dict[str, int]:
    """Compare a set with its manifest and with what the generator draws; see `SyntheticSet.verify`.

    Raises:
        UserError: if the set was made by another generator or another way, or an image is not what it should be.
    """
    found = SyntheticSet.open(folder)
    synthetic = SyntheticSet.create(folder, generator.origin(), generator.method(), found.seed)
    result = synthetic.verify(generator.draw, sample, tolerance)
    print(
        f"{folder}: {result['images']} images are what the manifest names; {result['redrawn']} drawn again differ by "
        f"at most {result['largest_difference']} grey levels"
    )
    return result


def _gather(images: np.ndarray, device: torch.device) -> np.ndarray:
    """The images of all ranks, in the order of the ranks."""
    if idist.get_world_size() == 1:
        return images
    return cast(torch.Tensor, idist.all_gather(torch.from_numpy(images).to(device))).cpu().numpy()
