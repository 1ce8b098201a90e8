"""Frames of DICOM files as 8-bit RGB, one at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, get_decoder, iter_pixels

from lap_monai.inference.dicom_file import DicomFile
from lap_monai.inference.source import Pixels
from lap_monai.inference.video import decoded, open_container, rgb

#: pydicom's plugins in the order we ask them, whatever else is installed: what decodes a frame must not depend on that.
#: GDCM comes last, for lossless JPEG, which no other decodes.
_PLUGINS = ("pydicom", "pillow", "pyjpegls", "pylibjpeg", "gdcm")


def decode_frames(file: DicomFile, start: int = 0) -> Iterator[Pixels | str]:
    """Yield the frames of a file from index `start` on, `(H, W, 3)` uint8 RGB; for one that is damaged, why."""
    return _decode_video(file, start) if file.is_video else _decode_pictures(file, start)


class FragmentStream(io.RawIOBase):
    """The fragments of an encapsulated stream as one file, read where they lie.

    Args:
        file: the open DICOM file; closed with the stream.
        fragments: `(offset, length)` of each.
    """

    def __init__(self, file: Any, fragments: list[tuple[int, int]]) -> None:
        self._file = file
        self._starts = np.cumsum([0, *(length for _, length in fragments)]).tolist()
        self._offsets = [offset for offset, _ in fragments]
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether any place can be gone to: yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what follows of one fragment, and return how much that was."""
        which = int(np.searchsorted(self._starts, self._position, side="right")) - 1
        if which >= len(self._offsets):
            return 0
        within = self._position - self._starts[which]
        view = memoryview(buffer)[: self._starts[which + 1] - self._position]
        self._file.seek(self._offsets[which] + within)
        count = self._file.readinto(view)
        self._position += count
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _decode_video(file: DicomFile, start: int) -> Iterator[Pixels | str]:
    index = 0
    with (
        closing(io.BufferedReader(FragmentStream(*file.fragments()), 1 << 18)) as stream,
        open_container(stream, "its video") as container,
    ):
        for frame in decoded(container):
            if index == file.frames:
                return
            if index >= start:
                yield frame if isinstance(frame, str) else rgb(frame)
            index += 1
    for _ in range(max(index, start), file.frames or 0):
        yield f"the video ends after {index} of {file.frames} frames; copy the file again"


def _decode_pictures(file: DicomFile, start: int) -> Iterator[Pixels | str]:
    header, end = file.header(), file.frames or 0
    # pydicom 3.0 decodes one uncompressed YBR_FULL_422 frame an iteration; the second one has the wrong size.
    at_once = 1 if not file.syntax.is_encapsulated and header.PhotometricInterpretation == "YBR_FULL_422" else end
    plugin, index = _plugin(file), start
    while index < end:
        # Without indices pydicom goes through the fragments once; with them it looks for each frame's from the start.
        indices = range(index, min(index + at_once, end))
        try:
            asked = None if len(indices) == end else indices
            for pixels in iter_pixels(file.path, indices=asked, decoding_plugin=plugin):
                yield _to_rgb(pixels, header)
                index += 1
            if index > indices[-1]:
                continue
            why = "is missing, the pixel data end before it; copy the file again"
        except Exception as error:  # a codec may raise anything for damaged data
            why = f"cannot be decoded ({type(error).__name__}); copy the file again"
        yield why
        index += 1


def _plugin(file: DicomFile) -> str:
    """Return which of pydicom's plugins decodes a file; none where nothing is to be decoded."""
    if not file.syntax.is_compressed:
        return ""
    available = get_decoder(file.syntax).available_plugins
    return next((plugin for plugin in _PLUGINS if plugin in available), "")


def _to_rgb(pixels: Any, header: Dataset) -> Pixels:
    """Turn what pydicom decodes (RGB for all kinds of YCbCr) into RGB."""
    photometric = header.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(pixels, header)[..., :3]
        pixels = colours >> 8 if colours.dtype == np.uint16 else colours
    elif photometric == "MONOCHROME1":
        pixels = (1 << int(header.BitsStored)) - 1 - pixels
    if pixels.ndim == 2:
        pixels = pixels[..., None].repeat(3, axis=2)
    return np.ascontiguousarray(pixels, dtype=np.uint8)
