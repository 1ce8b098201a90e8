"""Which axes of a NIfTI array are the picture, its channels and the stack of frames.

NIfTI was made for volumes and has no word for "a stack of colour pictures", so what others write is read by rules:

1. The first two axes are the picture. Frames of laparoscopy are wider than high, so the longer one is the width; where
   they are equal the first is, which is NIfTI's own order (x, y). Indices run as in a picture, from its upper left.
2. Colour is in the data type (RGB24, RGBA32); else on axis 5, NIfTI's own place for vectors; else on the one of the
   axes 3 and 4 that has 3 or 4 entries, axis 3 if both have. Without any of these the frames are grey.
3. The remaining axis longer than 1, if any, is the stack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lap_monai.checks import UserError

#: A side shorter than this is no picture's: axes 1 and 2 are something else.
_SHORTEST_SIDE = 16


@dataclass(frozen=True)
class NiftiLayout:
    """How frames lie in an array.

    Args:
        shape: of the array, without channels that its data type holds.
        rows_first: the picture's rows are on axis 1 (index 0), not its columns.
        channel_axis: index of the axis of channels, or None if the frames are grey or the data type holds colours.
        stack_axis: index of the axis of frames, or None if there is one frame.
    """

    shape: tuple[int, ...]
    rows_first: bool
    channel_axis: int | None
    stack_axis: int | None

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return 1 if self.stack_axis is None else self.shape[self.stack_axis]

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of the labels: the array's without its channels, each other axis at its place."""
        shape = [1 if axis == self.channel_axis else length for axis, length in enumerate(self.shape)]
        while len(shape) > max(3, 1 + (self.stack_axis or 0)) and shape[-1] == 1:
            shape.pop()
        return tuple(shape)

    def index(self, frame: int) -> tuple[int | slice, ...]:
        """Return what selects a frame, `(side, side)` or `(side, side, channels)`, from the array."""
        every = slice(None)
        return tuple(
            every if axis < 2 or axis == self.channel_axis else frame if axis == self.stack_axis else 0
            for axis in range(len(self.shape))
        )

    def label_index(self, frame: int) -> tuple[int | slice, ...]:
        """Return what selects a frame, `(side, side)`, from labels of `label_shape`."""
        every = slice(None)
        return tuple(
            every if axis < 2 else frame if axis == self.stack_axis else 0 for axis in range(len(self.label_shape))
        )

    def turn(self, pixels: np.ndarray) -> np.ndarray:
        """Swap the two sides if the array has columns first: from the array's order to `(H, W, …)`, or back."""
        return pixels if self.rows_first else pixels.swapaxes(0, 1)

    def __str__(self) -> str:
        width = 2 if self.rows_first else 1
        said = [f"axis {width} is the width"]
        if self.channel_axis is not None:
            said.append(f"axis {self.channel_axis + 1} the {self.shape[self.channel_axis]} channels")
        if self.stack_axis is not None:
            said.append(f"axis {self.stack_axis + 1} the stack of {self.frames} frames")
        return ", ".join(said)


def find_layout(shape: Sequence[int], coloured: bool) -> NiftiLayout:
    """Apply the rules above to an array.

    Args:
        shape: of the array.
        coloured: whether its data type holds the channels.

    Raises:
        UserError: without the file's name, if this is no picture, or has more channels than the 3 of a model.
    """
    shape = tuple(int(length) for length in shape)
    if len(shape) < 2 or min(shape[:2]) < _SHORTEST_SIDE or 0 in shape:
        raise UserError(f"has shape {_text(shape)}, whose first two axes are no picture; put rows and columns first.")
    long = [axis for axis in range(2, len(shape)) if shape[axis] > 1]
    channel_axis = None if coloured else _channel_axis(shape, long)
    stack = [axis for axis in long if axis != channel_axis]
    if len(stack) > 1:
        lengths = " and ".join(str(shape[axis]) for axis in stack)
        raise UserError(
            f"has shape {_text(shape)}: frames stacked along {len(stack)} axes ({lengths}), or more channels than the "
            f"model's 3; save one stack of grey or RGB frames."
        )
    return NiftiLayout(shape, shape[0] < shape[1], channel_axis, stack[0] if stack else None)


def _channel_axis(shape: tuple[int, ...], long: list[int]) -> int | None:
    if 4 in long:
        if shape[4] not in (3, 4):
            raise UserError(f"has {shape[4]} channels (axis 5), the model takes 3; save grey or RGB frames.")
        return 4
    return next((axis for axis in long if axis < 4 and shape[axis] in (3, 4)), None)


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if math.prod(shape) else f"{shape}"
