"""What frozen networks say about frames that never change, asked once and kept in bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from tqdm import tqdm

from lap_monai.data.cache import FrameCache, default_cache_directory
from lap_monai.data.layout import Row
from lap_monai.files import replacing
from lap_monai.keys import IMAGE

__all__ = ["SoftTargets", "unpack_soft_targets"]

_MOST = 255  # stands for probability 1
_BATCH = 4

#: Images and a network to logits, such as a `SlidingWindowInferer`.
Infer = Callable[[Tensor, nn.Module], Tensor]


class SoftTargets:
    """Class probabilities of networks for each of N frames, one byte each, in a memory map.

    A teacher that is asked in every epoch about the same synthetic frames says the same in every epoch. Asked once, its
    answers take K bytes a pixel, are augmented along with the frames, and cost a training step next to nothing. Each is
    within 1/510 of what the network said.

    The file is named by a hash of weights, frames and their size, so that answers of another network never mix in. It
    appears when it is complete; of several processes one makes it while the others wait.
    """

    def __init__(self, path: Path, rows: Sequence[Row]) -> None:
        """Open a complete file; `build` is the way in."""
        self.path = path
        self._position = {str(row[IMAGE]): i for i, row in enumerate(rows)}
        self._values = np.load(path, mmap_mode="r")

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        rows: Sequence[Row],
        cache: FrameCache,
        networks: Sequence[nn.Module],
        infer: Infer,
        sigmoid: bool = False,
        directory: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> SoftTargets:
        """Open the answers about `rows`; ask first if they are not there.

        Args:
            rows: of frames in `cache`.
            cache: the frames.
            networks: frozen networks on `device`; their channels follow each other.
            infer: how a network is applied to whole frames.
            sigmoid: whether channels are sigmoids of their own.
            directory: where to keep the file; None for `default_cache_directory()`.
            device: where the networks are.
        """
        directory = Path(directory) if directory is not None else default_cache_directory()
        path = directory / f"soft-{_key(rows, cache, networks, sigmoid)}.npy"
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / f".{path.stem}.lock"):
            if not path.is_file():
                with replacing(path) as temporary:
                    _ask(temporary, rows, cache, networks, infer, sigmoid, torch.device(device))
        return cls(path, rows)

    @property
    def num_channels(self) -> int:
        """K, of all networks together."""
        return int(self._values.shape[1])

    def of(self, row: Row) -> Tensor:
        """Return the answers about a row's frame, `(K, H, W)` uint8; zeros for a frame that was not asked about."""
        position = self._position.get(str(row[IMAGE]))
        if position is None:
            return torch.zeros(self._values.shape[1:], dtype=torch.uint8)
        return torch.from_numpy(self._values[position].copy())

    def __getstate__(self) -> dict[str, object]:
        """Pickle the place, not the pixels: a worker process opens the map itself."""
        return {"path": self.path, "_position": self._position}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Open the map again."""
        self.__dict__.update(state)
        self._values = np.load(self.path, mmap_mode="r")


def unpack_soft_targets(values: Tensor, sigmoid: bool = False) -> tuple[Tensor, Tensor]:
    """Return answers as logits, and where there are none.

    Args:
        values: `(U, K, H, W)` uint8 of K of 2 or more; all 255 in the border that an augmentation adds.
        sigmoid: whether channels are sigmoids of their own.

    Returns:
        Logits `(U, K, H, W)`, whose softmax (each network's channels on their own) or sigmoid gives the answers; and
        `(U, 1, H, W)` uint8, 255 in the border, 0 elsewhere.
    """
    border = (values == _MOST).all(dim=1, keepdim=True)
    p = values.float() / _MOST
    least = 0.25 / _MOST  # a byte of 0 stands for anything below half a step
    logits = torch.logit(p, eps=least) if sigmoid else p.clamp_min(least).log()
    return logits, border.to(torch.uint8) * _MOST


def _key(rows: Sequence[Row], cache: FrameCache, networks: Sequence[nn.Module], sigmoid: bool) -> str:
    digest = hashlib.sha256(f"{cache.size}{sigmoid}".encode())
    for row in rows:
        stat = os.stat(row[IMAGE])
        digest.update(f"{row[IMAGE]}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    for network in networks:
        for name, value in network.state_dict().items():
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]


def _ask(
    path: Path,
    rows: Sequence[Row],
    cache: FrameCache,
    networks: Sequence[nn.Module],
    infer: Infer,
    sigmoid: bool,
    device: torch.device,
) -> None:
    values: np.memmap | None = None
    for start in tqdm(range(0, len(rows), _BATCH), "soft targets", delay=2, leave=False):
        part = rows[start : start + _BATCH]
        frames = np.stack([cache.image(cache.position(row)) for row in part])
        images = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(_MOST).to(device)
        answers = [infer(images, network).float() for network in networks]
        p = torch.cat([logits.sigmoid() if sigmoid else logits.softmax(dim=1) for logits in answers], dim=1)
        if values is None:
            values = np.lib.format.open_memmap(path, "w+", np.uint8, (len(rows), *p.shape[1:]))
        values[start : start + len(part)] = (p * _MOST).round().to(torch.uint8).cpu().numpy()
    if values is not None:
        values.flush()
