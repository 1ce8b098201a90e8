"""The augmentation of Zhang et al. 2024, drawn at random."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform, Randomizable
from monai.utils import ensure_tuple_rep

from lap_monai.checks import UserError, require_choice
from lap_monai.transforms.surgical_augmentation import ColourMatrix, SurgicalAugmentation

__all__ = ["RandSurgicalAugmentd"]

_LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue in grey, ITU-R BT.601
_JITTERS = ("brightness", "contrast", "saturation")


class RandSurgicalAugmentd(MapTransform, Randomizable):
    """Zoom, crop (or reflect-pad), flip, blur and, if wanted, recolour a frame; its label along with it.

    Section 3.2.2 of Zhang et al. 2024: scaling by up to 10 %, flipping with probability 0.5, Gaussian blur with one of
    three kernels, random crops of 256 x 256. The paper leaves open how often to blur (here every second frame), which
    flip (here left and right: gravity and light tell up from down), and what becomes of its frames of 427 x 240, lower
    than the crop (here they are set amid a border in which the image is reflected and the label ignored).

    One call draws a `SurgicalAugmentation` and applies it to all keys. Stock transforms would resample whole float
    frames one after another; here only the pixels that remain are touched, once, as bytes.

    Examples:
        >>> augment = RandSurgicalAugmentd(["image", "label"]).set_random_state(seed=0)
        >>> frame, classes = torch.zeros(3, 240, 427, dtype=torch.uint8), torch.zeros(1, 240, 427, dtype=torch.uint8)
        >>> {key: tuple(value.shape) for key, value in augment({"image": frame, "label": classes}).items()}
        {'image': (3, 256, 256), 'label': (1, 256, 256)}
    """

    #: `FrameDataset` then hands over bytes, instead of converting pixels that are cropped away.
    accepts_uint8 = True

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        mode: Sequence[str] | str = ("bilinear", "nearest"),
        crop: Sequence[int] = (256, 256),
        scale: float = 0.1,
        flip: float = 0.5,
        blur: Sequence[tuple[int, float]] = ((3, 0.8), (5, 1.1), (7, 1.4)),
        blur_prob: float = 0.5,
        jitter: Mapping[str, float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        """Set the ranges to draw from.

        Args:
            keys: tensors to transform together, all of one `(H, W)`.
            mode: for each key, `"bilinear"` for images `(C, H, W)`, uint8 or float32 in [0, 1] (they become float32 in
                [0, 1]), or `"nearest"` for maps of class ids.
            crop: `(H, W)` of the result.
            scale: the frame is scaled by a factor between `1 - scale` and `1 + scale`.
            flip: probability of mirroring left and right.
            blur: `(kernel size, sigma)` pairs, sizes odd, of which one is drawn.
            blur_prob: probability of blurring.
            jitter: photometric option, half-widths of factors around 1 for `brightness`, `contrast` (about mid-grey)
                and `saturation`, for example `{"brightness": 0.2, "contrast": 0.2}`. Needs images of 3 channels.
            allow_missing_keys: skip keys that a sample lacks.

        Raises:
            UserError: for a value outside its range or an unknown mode or jitter.
        """
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.mode = [require_choice(m, ("bilinear", "nearest"), "mode") for m in ensure_tuple_rep(mode, len(self.keys))]
        self.crop = (int(crop[0]), int(crop[1]))
        self.scale, self.flip, self.blur_prob = scale, flip, blur_prob
        self.blur = [(int(size), float(sigma)) for size, sigma in blur]
        self.jitter = {require_choice(name, _JITTERS, "jitter"): float(width) for name, width in (jitter or {}).items()}
        self.R = np.random.RandomState()  # MONAI's is shared by all transforms until it is seeded
        self._check()

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandSurgicalAugmentd:
        """Seed as MONAI does, with the same draws, but without a new generator, which costs a tenth of a sample."""
        if seed is None or state is not None:
            super().set_random_state(seed, state)
        else:
            self.R.seed(seed % 2**32)
        return self

    def _check(self) -> None:
        if min(self.crop) < 1:
            raise UserError(f"crop must be (height, width) of at least one pixel each, got {self.crop}.")
        widths = {"scale": self.scale, **self.jitter}
        for name, width in widths.items():
            if not 0 <= width < 1:
                raise UserError(f"{name}={width}: give a number from 0 to below 1.")
        for name in ("flip", "blur_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)} is no probability; give a number from 0 to 1.")
        if any(size % 2 == 0 or not 0 < size <= min(self.crop) or sigma <= 0 for size, sigma in self.blur):
            raise UserError(
                f"blur={self.blur}: give pairs of an odd kernel size, no larger than the crop, and a sigma above 0."
            )
        if self.blur_prob and not self.blur:
            raise UserError("blur is empty but blur_prob is not 0; give kernels, or set blur_prob to 0.")

    def draw(self, height: int, width: int) -> SurgicalAugmentation:
        """Draw the parameters for a frame of `height` x `width` from this transform's random state."""
        factor = 1 + self._between(self.scale)
        zoomed = max(round(height * factor), 1), max(round(width * factor), 1)
        top, left = (int(self.R.randint(max(full - part, 0) + 1)) for full, part in zip(zoomed, self.crop, strict=True))
        flip = bool(self.R.random_sample() < self.flip)
        blur = self.blur[self.R.randint(len(self.blur))] if self.R.random_sample() < self.blur_prob else None
        return SurgicalAugmentation(zoomed, (top, left), self.crop, flip, blur, self._draw_colour())

    def _between(self, half_width: float) -> float:
        return float(self.R.uniform(-half_width, half_width))

    def _draw_colour(self) -> ColourMatrix | None:
        if not self.jitter:
            return None
        brightness, contrast, saturation = (1 + self._between(self.jitter.get(name, 0.0)) for name in _JITTERS)
        mix = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
        offset = np.full((3, 1), 0.5 * (1 - contrast))
        return tuple(map(tuple, (brightness * np.hstack([contrast * mix, offset])).tolist()))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a sample with all keys augmented alike."""
        sample = dict(data)
        present = list(self.key_iterator(sample, self.mode))
        if not present:
            return sample
        augmentation = self.draw(*sample[present[0][0]].shape[-2:])
        for key, mode in present:
            tensor = sample[key].as_tensor() if isinstance(sample[key], MetaTensor) else sample[key]
            sample[key] = augmentation.on_image(tensor) if mode == "bilinear" else augmentation.on_label(tensor)
        return sample
