"""What happens to a frame before and after the network, equal to the bundle's MONAI transforms to the bit, and lean.

MONAI's dictionary transforms keep an affine matrix, a transform history and copies for every step, which costs more
than the arithmetic. Their parameters are read from the bundle's own objects; the arithmetic is the same torch calls in
the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai import transforms as mt
from monai.utils import ensure_tuple
from torch.nn import functional

from lap_monai.checks import UserError
from lap_monai.inference.source import Pixels

#: Transforms that change how a frame is stored, not its values; loading is our sources' part.
_LAYOUT = (mt.LoadImaged, mt.EnsureChannelFirstd, mt.Transposed, mt.EnsureTyped)


@dataclass(frozen=True)
class Preprocessing:
    """Resize a frame and scale its values.

    Args:
        size: height and width that the network sees; None keeps the frame's.
        mode: of `torch.nn.functional.interpolate`.
        low: the value in a frame that becomes `to_low`.
        high: the value in a frame that becomes `to_high`.
        to_low: see `low`.
        to_high: see `high`.
        clip: whether values are held within `to_low` and `to_high`.
    """

    size: tuple[int, int] | None
    mode: str = "area"
    low: float = 0.0
    high: float = 255.0
    to_low: float = 0.0
    to_high: float = 1.0
    clip: bool = True

    @classmethod
    def of_transforms(cls, transforms: Sequence[object], config: str) -> Preprocessing:
        """Read the parameters of a bundle's transforms.

        Raises:
            UserError: naming the config, if a transform is none of those that this class computes.
        """
        size, mode, scale = None, "area", None
        for transform in transforms:
            if isinstance(transform, mt.Resized) and scale is None and _is_plain(transform):
                size, mode = _height_and_width(transform, config), str(transform.mode[0])
            elif isinstance(transform, mt.ScaleIntensityRanged) and scale is None:
                scale = transform.scaler
            elif not isinstance(transform, _LAYOUT):
                raise UserError(
                    f"preprocessing in {config!r} has {type(transform).__name__}, which predict does not compute; it "
                    "knows Resized, then ScaleIntensityRanged. Run this bundle with python -m monai.bundle run."
                )
        if scale is None or scale.b_min is None or scale.b_max is None:
            raise UserError(f"preprocessing in {config!r} lacks ScaleIntensityRanged with b_min and b_max; add it.")
        return cls(size, mode, scale.a_min, scale.a_max, scale.b_min, scale.b_max, scale.clip)

    def __call__(self, image: Pixels) -> torch.Tensor:
        """Return what the network takes of a frame `(H, W, 3)` uint8: float32 `(3, h, w)`."""
        scaled = (self._resized(image) - self.low) / (self.high - self.low)
        scaled = scaled * (self.to_high - self.to_low) + self.to_low
        return scaled.clamp(self.to_low, self.to_high) if self.clip else scaled

    def _resized(self, image: Pixels) -> torch.Tensor:
        height, width, _ = image.shape
        if self.mode == "area" and self.size is not None and (2 * self.size[0], 2 * self.size[1]) == (height, width):
            return _halved(image)
        # Some sources hand out views that must not be written to; PyTorch knows no such tensors.
        pixels = torch.from_numpy(np.require(image, requirements="W")).permute(2, 0, 1).float()
        if self.size is None or (height, width) == self.size:
            return pixels
        return functional.interpolate(pixels[None], size=self.size, mode=self.mode)[0]

    def restore(self, labels: torch.Tensor, size: tuple[int, int]) -> Pixels:
        """Return class ids `(h, w)` uint8 at the frame's `size` (H, W), each that of the nearest pixel.

        Equal to MONAI's inverse of `Resized` with nearest interpolation.
        """
        if tuple(labels.shape) == tuple(size):
            return labels.numpy()
        return functional.interpolate(labels[None, None], size=tuple(size), mode="nearest")[0, 0].numpy()


def _halved(image: Pixels) -> torch.Tensor:
    """Return the means of 2 x 2 pixels, float32 `(3, H / 2, W / 2)`.

    That is what `area` gives, to the bit, as sums of four bytes and their quarters are exact; in a tenth of the time.
    Frames of 854x480 at the bundle's 427x240 come this way.
    """
    rows = np.add(image[0::2], image[1::2], dtype=np.uint16)
    sums = np.empty((3, image.shape[0] // 2, image.shape[1] // 2), dtype=np.float32)
    np.add(rows[:, 0::2].transpose(2, 0, 1), rows[:, 1::2].transpose(2, 0, 1), out=sums)
    return torch.from_numpy(sums).mul_(0.25)


def _height_and_width(transform: mt.Resized, config: str) -> tuple[int, int]:
    size = ensure_tuple(transform.resizer.spatial_size)
    if len(size) != 2:
        raise UserError(f"preprocessing in {config!r} resizes to {list(size)}; give a height and a width.")
    return int(size[0]), int(size[1])


def _is_plain(transform: mt.Resized) -> bool:
    """Whether a resize has no smoothing and no mode that needs `align_corners`."""
    smooth = any(transform.anti_aliasing)
    return not smooth and str(transform.mode[0]) in ("area", "nearest", "nearest-exact", "bilinear")
