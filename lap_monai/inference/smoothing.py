"""Steadier classes over a video: a moving average of probabilities that follows the motion."""

from __future__ import annotations

import torch
from torch.nn import functional

#: Frames are compared at this share of the network's size: 60 x 107 pixels for 240 x 427.
_SCALE = 4
#: Motion searched for, in pixels at that scale: 12 at the network's.
_REACH = 3
#: Mean absolute difference of grey values (0 to 1), after motion, beyond which a pixel is taken for new.
_NEW = 0.08


class Smoother:
    """Average each frame's probabilities with those of the frames before, moved along with the picture.

    `s_t = (1 - w) p_t + w warp(s_{t-1})`, with the weight `w` falling to 0 where the motion does not explain the
    picture: at a cut, behind an instrument that moved away. The motion is found by comparing 7 x 7 neighbourhoods at a
    quarter of the network's size, which takes about as long as painting the frame.

    It also measures flicker: the share of pixels whose class differs from that of the frame before, moved along, over
    the pixels that the motion explains. `flicker` holds the means before and after smoothing.

    Args:
        weight: of the frames before, in [0, 1); 0 only measures.
    """

    def __init__(self, weight: float = 0.6) -> None:
        if not 0 <= weight < 1:
            raise ValueError(f"Smoother: expected a weight in [0, 1), got {weight}.")
        self.weight = weight
        self._sums = [0.0, 0.0]
        self._frames = 0
        self._grey: torch.Tensor | None = None
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None  # raw classes, smoothed probabilities

    @property
    def flicker(self) -> tuple[float, float] | None:
        """Mean share of flickering pixels before and after; None before the second frame."""
        return (self._sums[0] / self._frames, self._sums[1] / self._frames) if self._frames else None

    def reset(self) -> None:
        """Forget the frames before: the next is no successor of the last."""
        self._grey = self._last = None

    def __call__(self, pixels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return smoothed logits `(C, h, w)`: the logarithm of the averaged probabilities.

        Args:
            pixels: what the network took, `(3, h, w)` in [0, 1].
            logits: what it gave, `(C, h, w)`.
        """
        current = logits.float().softmax(0)
        grey = functional.avg_pool2d(pixels.mean(0)[None, None], _SCALE, ceil_mode=True)
        if self._grey is None or self._last is None or self._grey.shape != grey.shape:
            smoothed = current
        else:
            grid, known = _motion(self._grey, grey, (logits.shape[-2], logits.shape[-1]))
            raw, before = self._last
            moved = functional.grid_sample(before[None], grid, padding_mode="border", align_corners=False)[0]
            moved_raw = functional.grid_sample(
                raw[None, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
            )[0, 0]
            weight = self.weight * known
            smoothed = (1 - weight) * current + weight * moved
            count = known.sum().clamp(min=1)
            self._sums[0] += float(((current.argmax(0) != moved_raw) * known).sum() / count)
            self._sums[1] += float(((smoothed.argmax(0) != moved.argmax(0)) * known).sum() / count)
            self._frames += 1
        self._grey, self._last = grey, (current.argmax(0), smoothed)
        return smoothed.clamp(min=1e-8).log()


def _motion(before: torch.Tensor, now: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each pixel came from, as a sampling grid `(1, h, w, 2)`, and whether it did, `(h, w)` of 0 and 1."""
    height, width = now.shape[-2:]
    steps = range(-_REACH, _REACH + 1)
    shifts = [(dy, dx) for dy in steps for dx in steps]
    padded = functional.pad(before, [_REACH] * 4, mode="replicate")
    shifted = torch.cat(
        [padded[..., _REACH + dy : _REACH + dy + height, _REACH + dx : _REACH + dx + width] for dy, dx in shifts], 1
    )
    cost = functional.avg_pool2d((shifted - now).abs(), 7, 1, 3, count_include_pad=False)[0]
    # Where the picture is even, no motion is as good as any: a small charge on length decides.
    lengths = torch.tensor([abs(dy) + abs(dx) for dy, dx in shifts], dtype=cost.dtype)
    best = (cost + 0.002 * lengths[:, None, None]).argmin(0)
    residual = cost.gather(0, best[None])[0]
    flow = torch.tensor(shifts, dtype=cost.dtype)[best].permute(2, 0, 1)[None]
    flow = functional.interpolate(flow, size=size, mode="bilinear", align_corners=False)[0]
    known = functional.interpolate((residual < _NEW).float()[None, None], size=size, mode="nearest")[0, 0]
    ys = (torch.arange(size[0])[:, None] + 0.5) / size[0] + flow[0] / height
    xs = (torch.arange(size[1])[None] + 0.5) / size[1] + flow[1] / width
    return torch.stack([2 * xs - 1, 2 * ys - 1], -1)[None], known
