"""Small moving pictures, and medical files made of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    VideoEndoscopicImageStorage,
    VLEndoscopicImageStorage,
    generate_uid,
)

Frames = NDArray[np.uint8]

#: What must never be found in an output: planted into headers, file names and containers.
SECRETS = ("MUSTERMANN", "ERIKA", "PAT-4711", "19640812", "KLINIKUM-SUED", "20240317", "081559")


def moving_picture(count: int, height: int = 48, width: int = 80) -> Frames:
    """Frames `(count, H, W, 3)`: smooth colours, unequal along both axes, with a block that moves to the right."""
    y, x = np.mgrid[:height, :width]
    ground = np.stack([120 + x * 100 // width, 60 + y * 120 // height, np.full_like(x, 70)], axis=-1)
    frames = np.repeat(ground[None], count, axis=0).astype(np.uint8)
    for i, frame in enumerate(frames):
        frame[8:20, 4 + 3 * i : 20 + 3 * i] = (240, 30, 30)
    return frames


def labels_of(frame: Frames, classes: int = 8) -> Frames:
    """Class ids `(H, W)` that depend on both coordinates and on the frame: a stand-in for a network."""
    return ((frame[..., 0] // 16 + frame[..., 1] // 32) % classes).astype(np.uint8)


# --- DICOM ---------------------------------------------------------------------------------------------------------


def header(frames: Frames, secrets: bool = True, **attributes: Any) -> Dataset:
    """Header of an endoscopic image of frames `(T, H, W, …)`, single- or multi-frame, with planted identifiers."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = VLEndoscopicImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.Modality = "ES"
    dataset.InstanceNumber = 1
    if secrets:
        surname, name, patient, birth, institution, date, time = SECRETS
        dataset.PatientName = f"{surname}^{name}"
        dataset.PatientID = patient
        dataset.PatientBirthDate = birth
        dataset.InstitutionName = institution
        dataset.StudyDate = dataset.ContentDate = date
        dataset.StudyTime = dataset.ContentTime = time
        dataset.StudyDescription = f"Cholecystectomy of {surname}"
        dataset.add_new(0x0009_0010, "LO", "SCOPE MAKER")
        dataset.add_new(0x0009_1001, "LO", f"{surname} {patient}")
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    dataset.PhotometricInterpretation = "RGB" if frames.ndim == 4 else "MONOCHROME2"
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
        dataset.FrameTime = "40"
    for name_, value in attributes.items():
        setattr(dataset, name_, value)
    return dataset


def save_native(path: Path, frames: Frames, stored: bytes | None = None, **attributes: Any) -> Path:
    """Write uncompressed frames; `stored` are their bytes if they are not those of `frames`."""
    dataset = header(frames, **attributes)
    dataset.PixelData = frames.tobytes() if stored is None else stored
    dataset.PixelData += b"\0" * (len(dataset.PixelData) % 2)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_encapsulated(path: Path, frames: Frames, syntax: UID, encoded: list[bytes], **attributes: Any) -> Path:
    """Write encoded frames, one fragment each."""
    return save_fragments(path, frames, syntax, encapsulate(encoded), **attributes)


def save_fragments(path: Path, frames: Frames, syntax: UID, pixels: bytes, **attributes: Any) -> Path:
    """Write an encapsulated element of pixels as it is."""
    dataset = header(frames, **attributes)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path


def by_pillow(frames: Frames, form: str, **options: Any) -> list[bytes]:
    """Encode each frame with Pillow."""
    encoded = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, form, **options)
        encoded.append(buffer.getvalue())
    return encoded


def encode_video(frames: Frames, codec: str, container: str, fps: int = 25, tag: str = "") -> bytes:
    """Encode frames without loss of position: every frame is there, in order; colours are approximate."""
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        if tag:
            output.metadata["title"] = output.metadata["artist"] = tag
        stream = output.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "6"} if "264" in codec else {"x265-params": "crf=6:log-level=none"}
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def save_video(path: Path, frames: Frames, syntax: UID, stream: bytes, fragments: int = 1, **attributes: Any) -> Path:
    """Write a Video Endoscopic Image with the stream in one or more fragments, as the fragmentable syntaxes allow."""
    pieces = [
        piece.tobytes() for piece in np.array_split(np.frombuffer(stream + b"\0" * (len(stream) % 2), "u2"), fragments)
    ]
    pixels = b"\xfe\xff\x00\xe0\0\0\0\0"  # an empty offset table, as the standard wants for video
    for piece in pieces:
        pixels += b"\xfe\xff\x00\xe0" + len(piece).to_bytes(4, "little") + piece
    known = {"SOPClassUID": VideoEndoscopicImageStorage, "PhotometricInterpretation": "YBR_PARTIAL_420"}
    return save_fragments(path, frames, syntax, pixels, **{**known, **attributes})
