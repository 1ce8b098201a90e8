"""Drawn augmentations of a whole batch, applied at once where the batch lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lap_monai.keys import IGNORE_INDEX
from lap_monai.transforms.surgical_augmentation import SurgicalAugmentation, blur_weights

__all__ = ["augment_images", "augment_labels"]


def augment_images(images: Tensor, augmentations: Sequence[SurgicalAugmentation]) -> Tensor:
    """Apply to each image of a batch its own augmentation.

    What `SurgicalAugmentation.on_image` does image by image: zoom with antialiasing, crop, reflected border, flip and
    blur are linear and separable, so that each axis of each image is one matrix, and a batch two products of matrices.
    Bytes are rounded after each of the zoom's two passes there and never here: results differ by up to a grey level.

    Args:
        images: `(B, C, H, W)`, uint8 or float32 in [0, 1], on any device; channels last spares a copy.
        augmentations: one for each image, as a `RandSurgicalAugmentd` draws them: of one crop, all or none recoloured.

    Returns:
        float32 `(B, C, *crop)` in [0, 1].
    """
    rows, columns = _axes(augmentations, images.shape[2:], images.device)
    down, across = rows.weights(), columns.weights()
    blur = _kernels(augmentations, images.device)
    coloured = augmentations[0].colour is not None
    if blur is not None and not coloured:  # nothing stands between zoom and blur
        down, across = _smoothed(down, blur), _smoothed(across, blur)
    if images.dtype == torch.uint8:
        down = down / 255
    result = _product(down, images.float(), across)
    if coloured:
        result = _recoloured(result, augmentations)
        if blur is not None:
            identities = (torch.eye(size, device=result.device).expand(len(blur), -1, -1) for size in result.shape[2:])
            down, across = (_smoothed(identity, blur) for identity in identities)
            result = _product(down, result, across)
    return result


def augment_labels(labels: Tensor, augmentations: Sequence[SurgicalAugmentation]) -> Tensor:
    """Apply to each label map of a batch its own augmentation, exactly as `SurgicalAugmentation.on_label` does.

    Args:
        labels: `(B, 1, H, W)`, integers, on any device.
        augmentations: one for each map, all with the same crop.

    Returns:
        `(B, 1, *crop)` of the same type, `IGNORE_INDEX` in the border.
    """
    rows, columns = _axes(augmentations, labels.shape[2:], labels.device)
    images = torch.arange(len(labels), device=labels.device)[:, None, None]
    found = labels[images, 0, rows.nearest()[:, :, None], columns.nearest()[:, None, :]]
    inside = rows.inside[:, :, None] & columns.inside[:, None, :]
    return found.where(inside, torch.tensor(IGNORE_INDEX, dtype=labels.dtype, device=labels.device))[:, None]


@dataclass(frozen=True)
class _Axes:
    """One axis of the B images: which of the S source pixels each of the n result pixels shows."""

    source: int  # S
    zoomed: Tensor  # (B, 1), pixels of the scaled frame
    position: Tensor  # (B, n), place in the scaled frame, counted from the crop's start; outside of it in the border
    start: Tensor  # (B, 1), of the crop
    shown: Tensor  # (B, 1), pixels of the scaled frame in the result

    @property
    def inside(self) -> Tensor:
        """Whether a pixel of the result lies in the frame, `(B, n)`."""
        return (self.position >= 0) & (self.position < self.shown)

    def nearest(self) -> Tensor:
        """Source pixel under the centre of each pixel of the result, `(B, n)`; any in the border."""
        twice = 2 * (self.start + self.position) + 1
        return (twice * self.source).div(2 * self.zoomed, rounding_mode="floor").clamp(0, self.source - 1)

    def weights(self) -> Tensor:
        """How much of each source pixel goes into each pixel of the result, `(B, n, S)`: Pillow's bilinear filter."""
        period = (2 * (self.shown - 1)).clamp_min(1)
        reflected = self.position.remainder(period)
        reflected = reflected.minimum(period - reflected).minimum(self.shown - 1)
        step = self.source / self.zoomed.float()  # source pixels between two pixels of the scaled frame
        centre = (self.start + reflected + 0.5) * step
        distance = torch.arange(self.source, device=centre.device) + 0.5 - centre[:, :, None]
        triangle = (1 - distance.abs() / step.clamp_min(1)[:, :, None]).clamp_min(0)
        return triangle / triangle.sum(dim=2, keepdim=True)


def _axes(
    augmentations: Sequence[SurgicalAugmentation], shape: Sequence[int], device: torch.device
) -> tuple[_Axes, _Axes]:
    numbers = torch.tensor(
        [(*augmentation.zoomed, *augmentation.corner, augmentation.flip) for augmentation in augmentations],
        device=device,
    )
    crop = augmentations[0].crop
    axes = []
    for axis in (0, 1):
        zoomed, start = numbers[:, axis, None], numbers[:, 2 + axis, None]
        shown = (zoomed - start).clamp_max(crop[axis])
        place = torch.arange(crop[axis], device=device).expand(len(numbers), -1)
        if axis == 1:
            place = torch.where(numbers[:, 4, None] > 0, crop[axis] - 1 - place, place)
        position = place - (crop[axis] - shown).div(2, rounding_mode="floor")
        axes.append(_Axes(int(shape[axis]), zoomed, position, start, shown))
    return axes[0], axes[1]


def _product(down: Tensor, images: Tensor, across: Tensor) -> Tensor:
    """`down @ image @ across^T` of `(B, h, H)`, `(B, C, H, W)`, `(B, w, W)` for every image and channel."""
    count, channels, height, width = images.shape
    rows = down @ images.permute(0, 2, 3, 1).reshape(count, height, width * channels)
    rows = rows.reshape(count, -1, width, channels).permute(0, 3, 1, 2).reshape(count, -1, width)
    return (rows @ across.transpose(1, 2)).reshape(count, channels, down.shape[1], across.shape[1])


def _kernels(augmentations: Sequence[SurgicalAugmentation], device: torch.device) -> Tensor | None:
    """Each image's blur kernel, `(B, k)` with odd k, zeros around the smaller ones; None if there is no blur."""
    kernels = [[1.0] if a.blur is None else blur_weights(*a.blur) for a in augmentations]
    size = max(map(len, kernels))
    if size == 1:
        return None
    padded = [[0.0] * ((size - len(k)) // 2) + k + [0.0] * ((size - len(k)) // 2) for k in kernels]
    return torch.tensor(padded, device=device)


def _smoothed(matrices: Tensor, kernels: Tensor) -> Tensor:
    """Blur the result of `matrices` `(B, n, S)` along its pixels n, reflected at the ends, with kernels `(B, k)`."""
    size, half = matrices.shape[1], kernels.shape[1] // 2
    place = torch.arange(-half, size + half, device=matrices.device).abs()
    padded = matrices[:, place.minimum(2 * (size - 1) - place)]
    result = torch.zeros_like(matrices)
    for i in range(kernels.shape[1]):
        result.addcmul_(padded[:, i : i + size], kernels[:, i, None, None])
    return result


def _recoloured(images: Tensor, augmentations: Sequence[SurgicalAugmentation]) -> Tensor:
    matrices = torch.tensor([augmentation.colour for augmentation in augmentations], device=images.device)
    mixed = torch.baddbmm(matrices[:, :, 3:], matrices[:, :, :3], images.flatten(2))
    return mixed.clamp_(0, 1).reshape(images.shape)
