"""Frames and masks from image files: one way to decode and one way to resize, for every part of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from lap_monai.checks import UserError

__all__ = [
    "DISPUTED",
    "MOST_PIXELS",
    "PICTURE_FORMATS",
    "Label",
    "has_wide_channels",
    "label_files",
    "read_frame",
    "read_label",
    "read_mask",
    "require_size",
    "resize_frame",
    "resize_mask",
]

#: What a datalist row has as `label`: the file of a mask of raw values; or, where every structure has a file of its
#: own, file → raw value of what is not 0 in it (none at all: a frame that shows no structure).
Label = str | Mapping[str, int]

#: Raw value of a pixel that two files claim.
DISPUTED = 255

#: Formats that are tried (MPO is one of JPEG); some of Pillow's others start programs (PostScript) or are no pictures.
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")

#: Pixels beyond which a picture is an attack on memory and no frame.
MOST_PIXELS = 2**26

_WIDE_MODES = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}  # PIL modes of more than 8 bits a channel
_BITS_PER_SAMPLE = 258  # TIFF tag


def read_frame(path: str | Path) -> Image.Image:
    """Decode a frame as 8-bit RGB; greyscale and palette are expanded, an alpha channel is dropped.

    Raises:
        UserError: if the file is missing, damaged, no image, or has more than 8 bits a channel.
    """
    image = _decode(path, "frame")
    return image if image.mode == "RGB" else image.convert("RGB")


def read_mask(path: str | Path) -> Image.Image:
    """Decode a mask as one channel (mode L) of raw values: grey values, palette indices, or the first channel.

    The first channel is what CholecSeg8k's watershed masks need, whose three are equal; alpha is dropped.

    Raises:
        UserError: if the file is missing, damaged, no image, or has more than 8 bits a channel.
    """
    mask = _decode(path, "mask")
    if mask.mode == "P":  # the indices, not the colours they stand for
        return Image.fromarray(np.asarray(mask))
    if mask.mode == "1":
        return mask.convert("L")
    return mask.getchannel(0) if len(mask.getbands()) > 1 else mask


def label_files(label: Label) -> list[str]:
    """Return the mask files of a row's `label`."""
    return [str(label)] if not isinstance(label, Mapping) else list(label)


def read_label(label: Label, size: tuple[int, int]) -> Image.Image:
    """Decode the mask or masks of a row as one channel (mode L) of raw values.

    Of several files, a pixel has the value of the one that is not 0 there, 0 if none is, and 255, which is no class, if
    two are: structures do not overlap.

    Args:
        label: the row's `label`.
        size: (width, height) of its frame.

    Raises:
        UserError: as `read_mask` does, and if a mask is of another size than its frame.
    """
    if not isinstance(label, Mapping):
        return _of_size(read_mask(label), size, label)
    values = np.zeros(size[::-1], np.uint8)
    for path, value in label.items():
        drawn = np.asarray(_of_size(read_mask(path), size, path)) > 0
        values[drawn] = np.where(values[drawn] == 0, value, DISPUTED)
    return Image.fromarray(values)


def resize_frame(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return the frame as `(H, W, 3)` uint8 of `size`, each pixel the mean of the source pixels under it.

    Within one grey level of MONAI's `Resized(mode="area")` where the ratio is an integer. Elsewhere PIL's box filter
    decides, which counts every source pixel once, while the area mode lets neighbouring windows overlap.
    """
    height, width = size
    (down_x, rest_x), (down_y, rest_y) = divmod(image.width, width), divmod(image.height, height)
    if not (rest_x or rest_y):
        image = image.reduce((down_x, down_y))  # same as the box filter, several times faster
    elif image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BOX)
    # JPEG draft mode would decode faster, but its halving in the frequency domain differs by 20 grey levels at edges.
    return np.asarray(image)


def resize_mask(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return the mask as `(H, W)` uint8 of `size`: raw values at PIL's nearest neighbours.

    They lie amid the areas that `resize_frame` averages, so that frame and mask stay aligned at any ratio.
    """
    height, width = size
    return np.asarray(mask if mask.size == (width, height) else mask.resize((width, height), Image.Resampling.NEAREST))


def require_size(image: Image.Image) -> None:
    """Refuse a picture by its header, before anything is decoded, if it is too large to be a frame.

    Raises:
        ValueError: of more than 64 megapixels.
    """
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are no frame")


def has_wide_channels(image: ImageFile.ImageFile) -> bool:
    """Whether an opened picture has more than 8 bits a channel; to be asked before it is decoded.

    Of such colours Pillow keeps the high bytes alone, in an ordinary mode: frames of 12 bits would come out black.
    """
    if image.mode in _WIDE_MODES:
        return True
    if image.format == "PNG":  # not of every format: BMP's `BGR;16` has 16 bits a pixel
        return any(";16" in str(tile[3]) for tile in image.tile)
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8


def _of_size(mask: Image.Image, size: tuple[int, int], path: str | Path) -> Image.Image:
    if mask.size != size:
        raise UserError(
            f"mask {str(path)!r} is {mask.width}x{mask.height}, its frame {size[0]}x{size[1]}; "
            "give the mask that belongs to the frame, or drop the row."
        )
    return mask


def _decode(path: str | Path, what: str) -> Image.Image:
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            require_size(image)
            is_wide = has_wide_channels(image)
            image.load()
    except FileNotFoundError:
        raise UserError(f"{what} {str(path)!r} does not exist; check the data folder, or drop its row.") from None
    except UnidentifiedImageError:
        raise UserError(f"{what} {str(path)!r} is damaged or no image file; copy it again, or drop its row.") from None
    except Exception as error:  # for damaged data Pillow's decoders raise errors of many kinds
        reason = str(error) or type(error).__name__
        raise UserError(f"{what} {str(path)!r} cannot be decoded ({reason}); copy it again, or drop its row.") from None
    if is_wide:
        raise UserError(f"{what} {str(path)!r} has more than 8 bits a channel; convert it to 8 bits.")
    return image
