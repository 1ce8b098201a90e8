"""DICOM in: kinds of pixels against other decoders, videos, order, memory, and what is refused."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from medical_phantoms import (
    by_pillow,
    encode_video,
    header,
    moving_picture,
    save_encapsulated,
    save_fragments,
    save_native,
    save_video,
)
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HEVCMP51,
    MPEG4HP41,
    MPEG4HP41F,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
)

from lap_monai.checks import UserError
from lap_monai.inference.dicom_file import DicomFile
from lap_monai.inference.dicom_pixels import FragmentStream
from lap_monai.inference.dicom_source import DicomSource
from lap_monai.inference.source import Failure, Item, open_source

FRAMES = moving_picture(4)


def images_of(path: Path, start: int = 0) -> np.ndarray:
    items = list(DicomSource(path).items(start))
    assert all(isinstance(item, Item) for item in items), items
    return np.stack([item.image for item in items if isinstance(item, Item)])


# --- kinds of pixels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4])
def test_uncompressed_rgb(count: int, tmp_path: Path) -> None:
    np.testing.assert_array_equal(images_of(save_native(tmp_path / "a.dcm", FRAMES[:count])), FRAMES[:count])


def test_planes_one_after_another(tmp_path: Path) -> None:
    stored = np.moveaxis(FRAMES, 3, 1).tobytes()
    path = save_native(tmp_path / "a.dcm", FRAMES, stored, PlanarConfiguration=1)
    np.testing.assert_array_equal(images_of(path), FRAMES)


def test_full_ycbcr_as_pillow_converts_it(tmp_path: Path) -> None:
    stored = np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in FRAMES])
    expected = np.stack([np.asarray(Image.fromarray(frame, "YCbCr").convert("RGB")) for frame in stored])
    path = save_native(tmp_path / "a.dcm", FRAMES, stored.tobytes(), PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(images_of(path).astype(int), expected, atol=1)


def test_subsampled_ycbcr_as_pillow_converts_it(tmp_path: Path) -> None:
    """Y1 Y2 Cb Cr for two neighbouring pixels (PS3.3, C.7.6.3.1.2)."""
    full = np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in FRAMES])
    halved = full.copy()
    halved[:, :, 1::2, 1:] = halved[:, :, ::2, 1:]
    stored = np.stack([full[:, :, ::2, 0], full[:, :, 1::2, 0], halved[:, :, ::2, 1], halved[:, :, ::2, 2]], axis=-1)
    expected = np.stack([np.asarray(Image.fromarray(frame, "YCbCr").convert("RGB")) for frame in halved])
    path = save_native(tmp_path / "a.dcm", FRAMES, stored.tobytes(), PhotometricInterpretation="YBR_FULL_422")
    np.testing.assert_allclose(images_of(path).astype(int), expected, atol=1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_grey(photometric: str, tmp_path: Path) -> None:
    grey = FRAMES[..., 1]
    images = images_of(save_native(tmp_path / "a.dcm", grey, PhotometricInterpretation=photometric))
    expected = 255 - grey if photometric == "MONOCHROME1" else grey
    for channel in range(3):
        np.testing.assert_array_equal(images[..., channel], expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(bits: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    attributes: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, name in enumerate(["Red", "Green", "Blue"]):
        entries = table[:, channel].astype(f"<u{bits // 8}") << (bits - 8)
        attributes[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        attributes[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    path = save_native(tmp_path / "a.dcm", FRAMES[..., 0], **attributes)
    np.testing.assert_array_equal(images_of(path), table[FRAMES[..., 0]])


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2"])
def test_jpeg_as_pillow_decodes_it(subsampling: str, tmp_path: Path) -> None:
    encoded = by_pillow(FRAMES, "JPEG", quality=92, subsampling=subsampling)
    expected = np.stack([np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in encoded])
    path = save_encapsulated(
        tmp_path / "a.dcm", FRAMES, JPEGBaseline8Bit, encoded, PhotometricInterpretation="YBR_FULL_422"
    )
    # Decoders round and smooth subsampled colours differently; another conversion of colours is tens of levels off.
    assert np.abs(images_of(path).astype(int) - expected).mean() < 0.5


@pytest.mark.parametrize("photometric", ["YBR_RCT", "RGB"])
def test_jpeg_2000(photometric: str, tmp_path: Path) -> None:
    encoded = by_pillow(FRAMES, "JPEG2000", no_jp2=True, mct=int(photometric == "YBR_RCT"))
    path = save_encapsulated(
        tmp_path / "a.dcm", FRAMES, JPEG2000Lossless, encoded, PhotometricInterpretation=photometric
    )
    np.testing.assert_array_equal(images_of(path), FRAMES)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=["rle", "jpeg-ls"])
@pytest.mark.parametrize("count", [1, 4])
def test_run_lengths_and_jpeg_ls(syntax: UID, count: int, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(save_native(tmp_path / "a.dcm", FRAMES[:count]))
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(tmp_path / "b.dcm")
    np.testing.assert_array_equal(images_of(tmp_path / "b.dcm"), FRAMES[:count])


def test_lossless_jpeg(tmp_path: Path) -> None:
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    plain = save_native(tmp_path / "a.dcm", FRAMES, SOPClassUID=MultiFrameTrueColorSecondaryCaptureImageStorage)
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "b.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert DicomFile.read(tmp_path / "b.dcm").syntax == JPEGLosslessSV1
    np.testing.assert_array_equal(images_of(tmp_path / "b.dcm"), FRAMES)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=["implicit", "big endian"])
def test_other_ways_to_write_numbers(syntax: UID, tmp_path: Path) -> None:
    dataset = header(FRAMES)
    dataset.PixelData = FRAMES.tobytes()
    dataset["PixelData"].VR = "OB" if syntax == ExplicitVRBigEndian else "OW"
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(
        tmp_path / "a.dcm",
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    np.testing.assert_array_equal(images_of(tmp_path / "a.dcm"), FRAMES)


# --- videos --------------------------------------------------------------------------------------------------------

CLIP = moving_picture(24, 96, 128)


@pytest.mark.parametrize(
    ("codec", "container", "syntax"),
    [("libx264", "h264", MPEG4HP41), ("libx264", "mp4", MPEG4HP41), ("libx265", "hevc", HEVCMP51)],
)
@pytest.mark.parametrize("fragments", [1, 5])
def test_videos_as_pyav_decodes_their_stream(
    codec: str, container: str, syntax: UID, fragments: int, tmp_path: Path
) -> None:
    import av

    stream = encode_video(CLIP, codec, container)
    path = save_video(tmp_path / "a.dcm", CLIP, syntax, stream, fragments)
    images = images_of(path)
    with av.open(io.BytesIO(stream)) as plain:
        expected = np.stack([frame.to_ndarray(format="rgb24") for frame in plain.decode(video=0)])
    np.testing.assert_array_equal(images, expected)
    assert np.abs(images.astype(int) - CLIP).mean() < 6, "and these are the frames that went in"
    source = DicomSource(path)
    assert (source.total, source.fps) == (24, 25.0)
    items = list(source.items(start=20))
    assert [(item.index, item.name) for item in items] == [(i, f"{i:06d}") for i in range(20, 24)]
    assert [item.time for item in items if isinstance(item, Item)] == [0.8, 0.84, 0.88, 0.92]


def test_a_video_whose_header_does_not_count_is_read_to_its_end(tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.dcm", CLIP, MPEG4HP41, encode_video(CLIP, "libx264", "h264"), NumberOfFrames=1)
    assert DicomSource(path).total is None
    assert len(images_of(path)) == 24


def test_reading_goes_on_behind_videos_whose_headers_do_not_count(tmp_path: Path) -> None:
    stream = encode_video(CLIP[:8], "libx264", "h264")
    for name in "ab":
        save_video(tmp_path / f"{name}.dcm", CLIP, MPEG4HP41, stream, NumberOfFrames=1)
    whole = list(open_source(tmp_path).items())
    assert [item.index for item in whole] == list(range(16))
    rest = list(open_source(tmp_path).items(11))
    assert [item.index for item in rest] == list(range(11, 16))
    assert isinstance(rest[0], Item)
    assert isinstance(whole[11], Item)
    np.testing.assert_array_equal(rest[0].image, whole[11].image)


def test_a_video_that_ends_early_says_so_for_each_frame(tmp_path: Path) -> None:
    stream = encode_video(CLIP[:20], "libx264", "h264")
    items = list(DicomSource(save_video(tmp_path / "a.dcm", CLIP, MPEG4HP41, stream)).items())
    assert [item.index for item in items] == list(range(24))
    failures = [item for item in items if isinstance(item, Failure)]
    assert [item.index for item in failures] == list(range(20, 24))
    assert failures[0].error.startswith("the video ends after 20 of 24 frames")


def test_a_video_that_is_none_fails_in_one_line(tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.dcm", CLIP, MPEG4HP41F, bytes(4000))
    items = list(DicomSource(path).items())
    assert len(items) == 24
    assert isinstance(items[0], Failure)
    assert "\n" not in items[0].error


def test_fragments_read_as_one_file(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(1000)
    path = save_video(tmp_path / "a.dcm", CLIP, MPEG4HP41F, content, fragments=7)
    with io.BufferedReader(FragmentStream(*DicomFile.read(path).fragments()), 64) as stream:
        assert stream.read() == content
        for start in (0, 141, 142, 143, 999):
            stream.seek(start)
            assert stream.read(300) == content[start : start + 300]
        assert stream.seek(-10, io.SEEK_END) == 990
        assert stream.read() == content[-10:]
        assert stream.read() == b""


# --- order ---------------------------------------------------------------------------------------------------------


def test_a_folder_in_the_order_of_its_instance_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    series = pydicom.uid.generate_uid()
    for number, name in [(10, "a"), (2, "b"), (1, "c")]:
        save_native(folder / name, FRAMES[number % 4][None], SeriesInstanceUID=series, InstanceNumber=number)
    save_native(folder / "other.dcm", FRAMES[:2])
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (folder / "notes.txt").write_text("not DICOM")
    source = open_source(folder)
    items = list(source.items())
    assert (source.kind, source.total, source.fps) == ("dicom", 5, None)
    assert [item.name for item in items] == [f"{i:06d}" for i in range(5)]
    expected = FRAMES[[1, 2, 2, 0, 1]]
    np.testing.assert_array_equal(np.stack([item.image for item in items if isinstance(item, Item)]), expected)
    rest = list(source.items(4))
    assert [item.index for item in rest] == [4]


def test_a_bad_file_of_a_folder_takes_its_place_and_the_others_come(tmp_path: Path) -> None:
    save_native(tmp_path / "a.dcm", FRAMES[:1])
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM" + b"garbage" * 20)
    items = list(open_source(tmp_path).items())
    assert [type(item) for item in items] == [Item, Failure]


# --- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["native", "jpeg", "video"])
def test_memory_does_not_grow_with_the_number_of_frames(kind: str, tmp_path: Path) -> None:
    """What Python and NumPy hold at most, over a file of 8 and of 80 frames."""
    peaks = []
    for count in (8, 80):
        frames = np.tile(moving_picture(8, 240, 320), (count // 8, 1, 1, 1))
        path = tmp_path / f"{count}.dcm"
        if kind == "native":
            save_native(path, frames)
        elif kind == "jpeg":
            save_encapsulated(
                path, frames, JPEGBaseline8Bit, by_pillow(frames, "JPEG"), PhotometricInterpretation="YBR_FULL_422"
            )
        else:
            save_video(path, frames, MPEG4HP41, encode_video(frames, "libx264", "h264"))
        source = DicomSource(path)
        tracemalloc.start()
        assert sum(isinstance(item, Item) for item in source.items()) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + frames[0].nbytes


# --- bad input -----------------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        DicomSource(path)
    message = str(error.value)
    assert path.name in message
    assert "\n" not in message
    return message


def test_no_pixels(tmp_path: Path) -> None:
    dataset = header(FRAMES)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert "no pixel data" in refused(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        (UID("1.2.840.10008.1.2.4.94"), "JPIP"),
        (UID("1.2.3.4.5"), "1.2.3.4.5"),
        (DeflatedExplicitVRLittleEndian, "Defl"),
    ],
)
def test_transfer_syntaxes_that_nobody_decodes(syntax: UID, name: str, tmp_path: Path) -> None:
    path = save_native(tmp_path / "a.dcm", FRAMES)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax != DeflatedExplicitVRLittleEndian:
        dataset["PixelData"].value = encapsulate([b"frame", b"frame"])
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)
    message = refused(path)
    assert "not supported" in message
    assert name in message


@pytest.mark.parametrize(
    ("attributes", "cause"),
    [
        ({"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}, "12 bits"),
        ({"PhotometricInterpretation": "HSV"}, "HSV"),
        ({"NumberOfFrames": 9}, "truncated"),
        ({"Rows": 0}, "no rows"),
    ],
)
def test_pixels_that_are_no_frames(attributes: dict[str, Any], cause: str, tmp_path: Path) -> None:
    assert cause in refused(save_native(tmp_path / "a.dcm", FRAMES[..., 0], **attributes))


@pytest.mark.parametrize("content", [b"", b"short", bytes(128) + b"DICM" + b"\x02\0\0\0UL\4\0\xff\xff\xff\xff" * 9])
def test_corrupt_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.98])
def test_truncated_files(kept: float, tmp_path: Path) -> None:
    path = save_native(tmp_path / "a.dcm", FRAMES)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "truncated" in refused(path)


def test_a_damaged_frame_among_good_ones_is_a_failure(tmp_path: Path) -> None:
    encoded = by_pillow(FRAMES, "JPEG")
    encoded[1] = b"no picture at all!"
    path = save_encapsulated(
        tmp_path / "a.dcm", FRAMES, JPEGBaseline8Bit, encoded, PhotometricInterpretation="YBR_FULL"
    )
    items = list(DicomSource(path).items())
    assert [type(item) for item in items] == [Item, Failure, Item, Item]
    assert [item.index for item in items] == [0, 1, 2, 3]


def test_compressed_frames_that_are_missing_are_failures(tmp_path: Path) -> None:
    encoded = by_pillow(FRAMES[:2], "JPEG")
    path = save_encapsulated(
        tmp_path / "a.dcm", FRAMES, JPEGBaseline8Bit, encoded, PhotometricInterpretation="YBR_FULL"
    )
    assert [type(item) for item in DicomSource(path).items()] == [Item, Item, Failure, Failure]


def test_damaged_fragments_fail_in_one_line(tmp_path: Path) -> None:
    path = save_fragments(tmp_path / "a.dcm", CLIP, MPEG4HP41, b"\xfe\xff\x00\xe0\0\0\0\0" + b"nonsense" * 10)
    items = list(DicomSource(path).items())
    assert all(isinstance(item, Failure) and "damaged" in item.error for item in items)
    assert len(items) == 24


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no DICOM file"):
        DicomSource(tmp_path)
