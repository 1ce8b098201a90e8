"""What is given to `predict`: damaged NIfTI, DICOM, video and picture files, and headers that promise too much."""

from __future__ import annotations

import gzip
import io
import os
import re
import resource
import struct
import sys
import traceback
import zipfile
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import damaged
from PIL import Image
from tiny_data import picture

from lap_monai.checks import UserError
from lap_monai.data import read_frame
from lap_monai.inference import Bundle, Failure, open_source

Survives = Callable[..., Any]

#: Frames that are taken of a source: enough to reach every reader's loop.
MOST = 3


def read_all(path: Path) -> None:
    for item in islice(open_source(path).items(), MOST):
        assert isinstance(item, Failure) or (item.image.dtype == np.uint8 and item.image.ndim == 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def sound(place: Path) -> dict[str, bytes]:
    """One small sound file of each kind."""
    frames = np.stack([picture(index) for index in range(3)])
    volume = place / "sound.nii"
    nib.save(nib.Nifti1Image(frames.transpose(2, 1, 0, 3)[..., :1, 0].copy(), np.eye(4)), volume)
    return {
        "nii": volume.read_bytes(),
        "nii.gz": gzip.compress(volume.read_bytes()),
        "mp4": _video(place / "sound.mp4", "mpeg4", frames),
        "avi": _video(place / "sound.avi", "mjpeg", frames),
        "dcm": _dicom(frames),
        "png": _png(frames[0]),
    }


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _video(path: Path, codec: str, frames: np.ndarray) -> bytes:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


def _dicom(frames: np.ndarray) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["fuzz"])
    header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.NumberOfFrames, header.Rows, header.Columns = frames.shape[:3]
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "RGB", 0
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    header.PixelData = frames.tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, header, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["nii", "nii.gz", "mp4", "avi", "dcm", "png"])
@given(data=st.data())
def test_damaged_inputs(
    place: Path, sound: dict[str, bytes], survives: Survives, data: st.DataObject, kind: str
) -> None:
    path = place / f"input.{kind}"
    path.write_bytes(data.draw(damaged(sound[kind])))
    with survives(place):
        read_all(path)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mp4", "dcm", "png", "gif", "tif", "zip"])
@given(content=st.binary(max_size=600))
def test_anything_by_any_name(place: Path, survives: Survives, suffix: str, content: bytes) -> None:
    path = place / f"anything.{suffix}"
    path.write_bytes(content)
    with survives(place):
        read_all(path)


# --- promises that memory and disk could not keep ------------------------------------------------------------------

#: Bytes that reading a bomb may take beyond what the process has.
ROOM = 700 * 2**20


def in_bounds(read: Callable[[], Any]) -> None:
    """Run in a fork with little memory; fail unless it ends with a `UserError` or a failed frame."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            with open("/proc/self/statm", encoding="ascii") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
            resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
            read()
            status = 0
        except UserError:
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 0


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that says it is large and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", data or zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


def nifti_of(*shape: int) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((2,) * len(shape))
    raw = bytearray(header.binaryblock)
    raw[40:56] = struct.pack("<8h", len(shape), *shape, *[1] * (7 - len(shape)))
    return bytes(raw) + b"\0" * 4 + bytes(64)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png_of(2**31 - 1, 2**31 - 1)),
        ("b.png", png_of(60_000, 60_000)),
        ("c.png", png_of(13_000, 13_000)),  # what Pillow would still open: half a gigabyte of pixels, thrice over
        ("d.png", png_of(100, 100, zlib.compress(bytes(300 * 2**20), 9))),
        ("e.nii", nifti_of(32_767, 32_767, 32_767)),
        ("f.nii.gz", gzip.compress(nifti_of(32_767, 32_767, 3))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_headers_that_promise_too_much(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    in_bounds(lambda: read_all(tmp_path / name))
    if name.endswith(".png"):
        in_bounds(lambda: read_frame(tmp_path / name))


def test_a_compressed_volume_that_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    """What lies behind a header of a few pixels must not fill the disk."""
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(nifti_of(8, 8, 1))
        for _ in range(8):
            file.write(bytes(2**24))
    assert path.stat().st_size < 2**22
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**26, 2**26))  # more than 64 MB in a file ends the process
        try:
            read_all(path)
            os._exit(0)
        except UserError:
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(3)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 0


def test_an_archive_that_unpacks_to_more_than_any_bundle(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(3):
            packed.writestr(f"b/{number}", "{}")
    content = bytearray(path.read_bytes())
    for entry in re.finditer(b"PK\x01\x02", bytes(content)):  # the central directory, whose sizes readers believe
        content[entry.start() + 24 : entry.start() + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)
    many = tmp_path / "many.zip"
    with zipfile.ZipFile(many, "w") as packed:
        for number in range(10_001):
            packed.writestr(f"b/{number}", b"")
    for bomb, said in ((path, "would unpack to more than 8 GiB"), (many, "holds 10001 files")):
        with pytest.raises(UserError, match=said):
            Bundle.open(bomb)
