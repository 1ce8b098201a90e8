"""A DICOM file before its pixels are decoded: what it holds, and whether it can be read at all."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import FileDataset
from pydicom.encaps import parse_fragments
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MPEGTransferSyntaxes

from lap_monai.checks import UserError
from lap_monai.data.image_files import MOST_PIXELS

#: Photometric interpretations that frames may have once decoded.
_PHOTOMETRIC = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_CONVERT = "convert the file, for example with dcmdjpeg or gdcmconv --raw"
_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file with frames in it.

    Args:
        path: where it is.
        syntax: its transfer syntax.
        frames: how many frames the header names; None for a video whose header does not.
        fps: frames a second as the header has them, or None.
        series: the series instance UID.
        number: the instance number, 0 without one.
        multi_frame: whether references to a frame of it give the frame's number.
    """

    path: Path
    syntax: UID
    frames: int | None
    fps: float | None
    series: str
    number: int
    multi_frame: bool

    @classmethod
    def read(cls, path: Path) -> DicomFile:
        """Read the header.

        Raises:
            UserError: without the file's name, if the file is damaged or its frames are of a kind that is not read.
        """
        header, pixels = _read(path)
        try:
            return cls._of_header(path, header, pixels)
        except UserError:
            raise
        except Exception as error:  # pydicom converts values when they are asked for, and finds what is wrong then
            raise UserError(f"its header is damaged ({type(error).__name__}); copy the file again") from None

    @classmethod
    def _of_header(cls, path: Path, header: FileDataset, pixels: int | None) -> DicomFile:
        syntax = UID(header.file_meta.get("TransferSyntaxUID", ""))
        is_video = syntax in MPEGTransferSyntaxes
        _check_syntax(syntax)
        if pixels is None:
            raise UserError("it holds no pixel data; name a file with frames")
        if not is_video:
            _check_pixels(header)
            _check_length(header, syntax, path, pixels)
        count = int(header.get("NumberOfFrames") or 1)
        return cls(
            path=path,
            syntax=syntax,
            frames=None if is_video and count < 2 else count,
            fps=_fps(header),
            series=str(header.get("SeriesInstanceUID", "")),
            number=int(header.get("InstanceNumber") or 0),
            multi_frame=is_video or count > 1,
        )

    @property
    def is_video(self) -> bool:
        """Whether the frames are one compressed stream of pictures (MPEG-2, MPEG-4, HEVC)."""
        return self.syntax in MPEGTransferSyntaxes

    def header(self) -> FileDataset:
        """Return all of the file but its pixels."""
        return _read(self.path)[0]

    def fragments(self) -> tuple[BinaryIO, list[tuple[int, int]]]:
        """Open the file and find its compressed pixels: `(offset, length)` of each fragment.

        Raises:
            UserError: without the file's name, if they are damaged.
        """
        offset = _read(self.path)[1]
        assert offset is not None  # `read` has refused such a file
        file = self.path.open("rb")
        try:
            file.seek(offset + 12)  # tag, value representation, length
            if file.read(4) != _ITEM:
                raise ValueError("no offset table")
            (length,) = struct.unpack("<L", file.read(4))
            file.seek(length, os.SEEK_CUR)
            found = []
            for start in parse_fragments(file)[1]:
                file.seek(start + 4)
                found.append((start + 8, struct.unpack("<L", file.read(4))[0]))
        except (ValueError, struct.error) as error:
            file.close()
            raise UserError(f"its pixel data are damaged ({error}); copy the file again") from None
        return file, found


def _read(path: Path) -> tuple[FileDataset, int | None]:
    """Return the header, and where the element of pixels begins."""
    try:
        with path.open("rb") as file:
            header = pydicom.dcmread(file, stop_before_pixels=True)
            offset = file.tell()
            has_pixels = file.read(4) in (struct.pack("<HH", 0x7FE0, 0x0010), struct.pack(">HH", 0x7FE0, 0x0010))
        for keyword in ("NumberOfFrames", "Rows", "Columns", "InstanceNumber", "SeriesInstanceUID"):
            header.get(keyword)  # values are converted when they are asked for
    except InvalidDicomError:
        raise UserError("it is damaged or no DICOM file; copy it again") from None
    except Exception as error:  # pydicom's are of many kinds, and their texts may quote the header
        raise UserError(f"its header is damaged ({type(error).__name__}); copy the file again") from None
    return header, offset if has_pixels else None


def _check_syntax(syntax: UID) -> None:
    """Refuse what nothing here decodes."""
    unsupported = f"its transfer syntax ({syntax.name or 'none'}) is not supported; {_CONVERT}"
    if not syntax.is_transfer_syntax or syntax == DeflatedExplicitVRLittleEndian:
        raise UserError(unsupported)
    if syntax.is_compressed and syntax not in MPEGTransferSyntaxes:
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise UserError(unsupported) from None
        if not decoder.is_available:
            raise UserError(f"nothing is installed that decodes {syntax.name}; pip install 'lap_monai[dicom]'")


def _check_pixels(header: FileDataset) -> None:
    """Refuse what is no frame of 8 bits."""
    photometric = header.get("PhotometricInterpretation", "none")
    if photometric not in _PHOTOMETRIC:
        known = (
            photometric if photometric in ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK") else "unknown"
        )
        raise UserError(f"its photometric interpretation ({known}) is not supported; {_CONVERT}")
    if int(header.get("BitsStored") or 8) > 8:
        raise UserError(f"it has {header.BitsStored} bits a channel; convert it to 8 bits")
    if not (header.get("Rows") and header.get("Columns")):
        raise UserError("it has no rows or columns; copy the file again")
    if header.Rows * header.Columns > MOST_PIXELS:
        raise UserError(f"its header promises frames of {header.Columns}x{header.Rows}, which none are; copy it again")


def _check_length(header: FileDataset, syntax: UID, path: Path, offset: int) -> None:
    """Refuse uncompressed pixels that are cut off; compressed ones fail frame by frame."""
    if syntax.is_encapsulated:
        return
    samples = 2 if header.PhotometricInterpretation == "YBR_FULL_422" else int(header.get("SamplesPerPixel") or 1)
    frames = int(header.get("NumberOfFrames") or 1)
    needed = header.Rows * header.Columns * samples * frames * int(header.get("BitsAllocated") or 8) // 8
    left = path.stat().st_size - offset - 8
    if left < needed:
        raise UserError(f"it is truncated: {max(left, 0)} of {needed} bytes of pixels; copy the file again")


def _fps(header: FileDataset) -> float | None:
    """Frames a second: from the time of a frame, or the rate of the recording, or that of showing it."""
    if header.get("FrameTime"):
        return 1000 / float(header.FrameTime)
    rate = header.get("CineRate") or header.get("RecommendedDisplayFrameRate")
    return float(rate) if rate else None
