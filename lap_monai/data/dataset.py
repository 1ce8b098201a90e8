"""Samples from a frame cache."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset

from lap_monai.checks import UserError, require_choice
from lap_monai.data.cache import FrameCache
from lap_monai.data.layout import Row, row_id
from lap_monai.data.phases import phase_index
from lap_monai.keys import CLASSES, HAS_MASK, IGNORE_INDEX, IMAGE, LABEL, PHASE, VIDEO
from lap_monai.label_space import LabelSpace

__all__ = ["FrameDataset"]

Sample = dict[str, Any]
Transform = Callable[[Sample], Sample]


class FrameDataset(Dataset[Sample]):
    """Frames of a cache as training samples: a dict of plain tensors and two strings.

    | key | value |
    |---|---|
    | `image` | float32 `(3, H, W)` in [0, 1], RGB |
    | `label` | uint8 `(1, H, W)`, class index or 255 (ignored); all 255 where the mask is missing or may not be used |
    | `has_mask` | bool: whether the mask is there and may be used |
    | `classes` | float32 `(C,)`: 1 where `min_pixels` or more of the native mask are of a class, else 0; NaN without |
    | `phase` | int64: index in `PHASES`, or -1 |
    | `video`, `id` | str: the patient; `<video>_<frame>` |

    The class vector is the image-level label of label-efficient methods: a frame has it whether or not its mask may
    be used. NaN, not 0, where there is no mask file: nothing is known, and a loss that overlooks it shows.

    `dataset[index]` draws from the transform's own random state. `dataset[(index, seed)]` seeds the transform first, so
    that a sample is a function of index and seed alone, whichever worker makes it and whenever (`MixedBatchSampler`
    yields such pairs).
    """

    def __init__(
        self,
        data: Sequence[Row],
        cache: FrameCache,
        label_space: LabelSpace,
        transform: Transform | None = None,
        use_masks: bool | Sequence[Row] = True,
        min_pixels: int = 1,
        unknown_values: str = "refuse",
    ) -> None:
        """Choose frames of a cache.

        Args:
            data: the rows of the frames, all of them in `cache` (MONAI's name for a data set's datalist).
            cache: may hold more frames than `data`.
            label_space: gives raw mask values their classes.
            transform: a dictionary transform, or a `Compose` of them, on a sample. It gets the image as float32 in
                [0, 1], what stock MONAI transforms expect; one whose attribute `accepts_uint8` is true
                (`RandSurgicalAugmentd`), first in the chain, gets the uint8 frame and spares converting what it crops
                away. None gives whole frames.
            use_masks: whether masks may be seen: True, False, or the rows whose masks may be (a budget).
            min_pixels: pixels of the native mask from which on a class counts as present.
            unknown_values: what happens to mask values that the layout does not define: `"refuse"` them, as the sign of
                damaged data or of the wrong label space, or `"ignore"` their pixels, with a warning.

        Raises:
            UserError: if a row is not in the cache, a budget's row is not in `data`, or a mask holds values that the
                layout of `label_space` does not know.
        """
        self.rows = list(data)
        self.cache = cache
        self.label_space = label_space
        self.transform = transform
        self._positions = np.array([cache.position(row) for row in self.rows], np.int64)
        self.has_mask = np.array([row[LABEL] is not None for row in self.rows], bool) & self._usable(use_masks)
        self.phases = np.array([phase_index(row[PHASE]) for row in self.rows], np.int64)
        self.class_vectors = self._count_classes(min_pixels, unknown_values)
        self._float_input = not getattr(_first(transform), "accepts_uint8", False)

    has_mask: np.ndarray  #: `(N,)` bool
    phases: np.ndarray  #: `(N,)` int64
    class_vectors: np.ndarray  #: `(N, C)` float32, as in the samples

    @property
    def pixel_counts(self) -> np.ndarray:
        """`(C,)` int64: pixels of each class over the native masks that may be used."""
        return self.label_space.count_pixels(self.cache.histograms[self._positions[self.has_mask]].sum(axis=0))

    @property
    def masked(self) -> list[int]:
        """Indices of the frames whose masks are there and may be used."""
        return np.flatnonzero(self.has_mask).tolist()

    @property
    def label_only(self) -> list[int]:
        """Indices of all other frames: those of which a method sees image-level labels only."""
        return np.flatnonzero(~self.has_mask).tolist()

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return sample `index`, or sample `(index, seed)`."""
        index, seed = key if isinstance(key, tuple) else (key, None)
        sample = self.whole(index)
        if self.transform is not None:
            if seed is not None and isinstance(self.transform, Randomizable):
                self.transform.set_random_state(seed=seed)
            sample = self.transform(sample)
        sample[IMAGE] = _finished_image(sample[IMAGE])
        sample[LABEL] = _finished_label(sample[LABEL])
        return sample

    def whole(self, index: int) -> Sample:
        """Return sample `index` as its transform gets it: the whole frame, in bytes if the transform takes them."""
        return self._whole(range(len(self))[index])  # negative indices, and IndexError past the end

    def _whole(self, index: int) -> Sample:
        position, row = int(self._positions[index]), self.rows[index]
        # A copy: a transform may write into its input, the map is shared and read-only.
        image = torch.from_numpy(self.cache.image(position).copy()).permute(2, 0, 1)
        return {
            IMAGE: _to_unit_range(image) if self._float_input else image,
            LABEL: torch.from_numpy(self._label(index, position)),
            CLASSES: torch.from_numpy(self.class_vectors[index].copy()),
            PHASE: torch.tensor(self.phases[index]),
            HAS_MASK: torch.tensor(self.has_mask[index]),
            VIDEO: row[VIDEO],
            "id": row_id(row),
        }

    def _label(self, index: int, position: int) -> np.ndarray:
        mask = self.cache.mask(position) if self.has_mask[index] else None
        if mask is None:
            return np.full((1, *self.cache.size), IGNORE_INDEX, np.uint8)
        return self.label_space.encode(mask)[None]

    def _usable(self, use_masks: bool | Sequence[Row]) -> np.ndarray:
        if isinstance(use_masks, bool):
            return np.full(len(self.rows), use_masks)
        known = {str(row[IMAGE]): i for i, row in enumerate(self.rows)}
        usable = np.zeros(len(self.rows), bool)
        for row in use_masks:
            if str(row[IMAGE]) not in known:
                raise UserError(
                    f"frame {str(row[IMAGE])!r} of the budget is not in this data set; draw the budget from its rows."
                )
            usable[known[str(row[IMAGE])]] = True
        return usable

    def _count_classes(self, min_pixels: int, unknown_values: str) -> np.ndarray:
        histograms = self.cache.histograms_of(self.rows)
        self._judge_unknown(histograms, unknown_values)
        present = (self.label_space.count_pixels(histograms) >= min_pixels).astype(np.float32)
        present[[row[LABEL] is None for row in self.rows]] = np.nan
        return present

    def _judge_unknown(self, histograms: np.ndarray, policy: str) -> None:
        require_choice(policy, ("refuse", "ignore"), "unknown_values")
        unknown = self.label_space.unknown_values(histograms.sum(axis=0)) if len(self.rows) else ()
        if not unknown:
            return
        holders = np.flatnonzero(histograms[:, unknown].any(axis=1))
        path = self.rows[int(holders[0])][LABEL]
        others = f" (and {len(holders) - 1} more masks hold such)" if len(holders) > 1 else ""
        finding = f"mask {str(path)!r} holds {unknown[0]}, no value of layout {self.label_space.layout!r}{others}"
        if policy == "refuse":
            raise UserError(
                f"{finding}; choose this data set's label space, mend the masks, or set unknown_values to 'ignore'."
            )
        warnings.warn(f"{finding}; those pixels are ignored.", stacklevel=4)


def _first(transform: Transform | None) -> Transform | None:
    while isinstance(transform, Compose) and transform.transforms:
        transform = transform.transforms[0]
    return transform


def _to_unit_range(image: torch.Tensor) -> torch.Tensor:
    return image.contiguous().to(torch.float32).div_(255)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Undo what stock transforms do to plain tensors: they come back as `MetaTensor`."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _finished_image(image: torch.Tensor) -> torch.Tensor:
    image = _plain(image)
    if image.dtype == torch.uint8:
        return _to_unit_range(image)
    return image.to(torch.float32).contiguous()


def _finished_label(label: torch.Tensor) -> torch.Tensor:
    label = _plain(label)
    if label.is_floating_point() and not torch.equal(label, label.round()):
        raise UserError('the transform blends class ids of "label"; give it mode "nearest" for this key.')
    return label.to(torch.uint8).contiguous()
