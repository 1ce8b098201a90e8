"""Labels as DICOM segmentations: label maps with SNOMED CT codes that refer to the frames they were made from."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import IO

import highdicom as hd
import numpy as np
from highdicom.color import CIELabColor
from highdicom.frame import encode_frame
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO, DicomIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, VLEndoscopicImageStorage

import lap_monai
from lap_monai.checks import UserError
from lap_monai.files import replacing
from lap_monai.inference.dicom_file import DicomFile
from lap_monai.inference.dicom_source import DICOM, DicomFrame
from lap_monai.inference.source import Item, Pixels
from lap_monai.inference.terminology import Coded, is_background, segment_numbers, term_of
from lap_monai.inference.video import frame_name
from lap_monai.inference.writer import Output, Prediction
from lap_monai.label_space import LabelSpace

#: The study's and patient's attributes that DICOM wants in every object, if only empty (type 2).
_PATIENT = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
#: What a segmentation cannot do without: which image it is of, and whether that had lost something by compression.
_REFERENCE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_DEIDENTIFICATION = "Patient, study and series emptied; source UIDs retained"
_REMEDY = "restore the file, or leave --write seg out"

#: Lossless, and ten times as fast as run lengths in Python; encoders and decoders come with highdicom.
_SYNTAX = JPEGLSLossless


class DicomSegWriter:
    """One DICOM label map segmentation for each source file: `seg/000000.dcm` …, the number being its first frame's.

    Segment numbers are class indices (`terminology.segment_numbers`), 0 being DICOM's background. A frame of the
    segmentation names the one it was made from: by SOP instance UID, and in a video or multi-frame image by frame
    number, in its Derivation Image Sequence. Frames that failed or were passed over have none.

    highdicom builds and checks the object for a first frame; it takes no more than one from an image without a frame of
    reference, which endoscopes do not have (ImagingDataCommons/highdicom, issue 284). Further frames are added as the
    standard says, with Temporal Position Index as their dimension (PS3.3, C.7.6.16.2.2 and C.7.6.17), and go to the
    disk as they come, so that memory does not grow.

    By default the segmentation holds the source's SOP class and the UIDs of its instance, series and study, without
    which nobody could tell what it segments, and nothing else of its header: patient, study and times are left empty
    and the removal is stated. With `keep_identifiers` patient and study are carried over, as an archive wants it.

    Args:
        output: a run over a DICOM source.

    Raises:
        UserError: if a class has no code.
    """

    resumable = False

    def __init__(self, output: Output) -> None:
        self._folder = output.folder / "seg"
        self._keep = output.keep_identifiers
        self._space = output.label_space
        self._segments = describe_segments(output.label_space)
        numbers = segment_numbers(output.label_space.classes)
        self._numbers = np.zeros(256, dtype=np.uint8)
        self._numbers[: len(numbers)] = numbers
        self._series: dict[str, str] = {}  # one of ours in each study
        self._count = 0
        self._sizes: dict[DicomFile, tuple[int, int]] = {}  # of frames, by the header
        self._reasons: dict[DicomFile, str | None] = {}  # why no segmentation can refer to a file
        self._open: _SegFile | None = None

    def refusal(self, item: Item) -> str | None:
        """Return why no segmentation can refer to a frame: what its file's header lacks, or another size than that."""
        frame: DicomFrame = item.meta[DICOM]
        if frame.file not in self._sizes:
            self._sizes[frame.file] = _size_of(frame.file)
        said, found = self._sizes[frame.file], item.image.shape[:2]
        if 0 in said:
            return f"its header lacks rows or columns, so no segmentation can refer to it; {_REMEDY}"
        if found != said:
            sizes = f"its header says {said[1]}x{said[0]} pixels, but the frame has {found[1]}x{found[0]}"
            return f"{sizes}, so no segmentation can refer to it; {_REMEDY}"
        if frame.file not in self._reasons:
            self._reasons[frame.file] = self._why_not(frame.file, said)
        return self._reasons[frame.file]

    def _why_not(self, file: DicomFile, size: tuple[int, int]) -> str | None:
        """Make the segmentation of an empty frame, since highdicom checks more than we know of."""
        try:
            self._template(file, np.zeros(size, np.uint8), 1)
        except UserError as error:
            return str(error)
        except Exception as error:  # highdicom's are of many kinds, and their texts may quote the header
            return f"its header does not allow a segmentation ({type(error).__name__}); {_REMEDY}"
        return None

    def write(self, item: Item, prediction: Prediction) -> None:
        """Take the next frame."""
        frame: DicomFrame = item.meta[DICOM]
        if self._open is None or self._open.file is not frame.file:
            self.close()
            self._open = _SegFile(frame.file, self._folder, frame_name(item.index - frame.number + 1))
        if prediction.skipped is None:
            self._open.add(self._numbers[prediction.labels], frame.number)

    def checkpoint(self, done: int) -> None:
        """Do nothing: the number of frames stands at the head of a file, so it is written at its end."""

    def close(self) -> None:
        """Write the segmentation of the last file."""
        if self._open is None:
            return
        finished, self._open = self._open, None
        self._count += 1
        try:
            if finished.frames:
                template = self._template(finished.file, finished.first, self._count)
                finished.save(self._folder / f"{finished.name}.dcm", template)
        finally:
            finished.discard()

    def abort(self) -> None:
        """Drop the segmentation that is not whole."""
        if self._open is not None:
            self._open.discard()
            self._open = None

    def _template(self, file: DicomFile, labels: Pixels, number: int) -> Dataset:
        """Let highdicom make the segmentation of one frame."""
        source = _source_of(file, self._keep)
        series = self._series.setdefault(str(source.StudyInstanceUID), hd.UID())
        # Of multi-frame classes highdicom wants sizes in millimetres, which no endoscope knows.
        kind, source.SOPClassUID = source.SOPClassUID, VLEndoscopicImageStorage
        made = hd.seg.Segmentation(
            source_images=[source],
            pixel_array=labels,
            segmentation_type=hd.seg.SegmentationTypeValues.LABELMAP,
            segment_descriptions=self._segments,
            series_instance_uid=series,
            series_number=9000,
            series_description=f"Segmentation of {self._space.name}",
            sop_instance_uid=hd.UID(),
            instance_number=number,
            manufacturer="lap_monai",
            manufacturer_model_name="lap_monai",
            software_versions=lap_monai.__version__,
            device_serial_number="none",
            content_label="SURGICAL_ANATOMY",
            content_description=self._space.name,
            omit_empty_frames=False,
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        for element in made.iterall():
            if element.keyword == "ReferencedSOPClassUID":
                element.value = kind
        return made


def describe_segments(space: LabelSpace) -> list[hd.seg.SegmentDescription]:
    """Return highdicom's descriptions of all classes but the background, with codes and colours.

    Raises:
        UserError: if a class has no code.
    """
    algorithm = hd.AlgorithmIdentificationSequence(
        "lap_monai", codes.DCM.ArtificialIntelligence, lap_monai.__version__, source="lap_monai"
    )
    described = []
    for name, number, colour in zip(space.classes, segment_numbers(space.classes), space.colours, strict=True):
        if is_background(name):
            continue
        term = term_of(name)
        description = hd.seg.SegmentDescription(
            segment_number=int(number),
            segment_label=name,
            segmented_property_category=_code(term.category),
            segmented_property_type=_code(term.type),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(*colour),
        )
        if term.modifier is not None:
            description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
                _code(term.modifier)
            ]
        described.append(description)
    return described


class _SegFile:
    """The segmentation of one source file while its frames come in: in two files without names, gone when closed."""

    def __init__(self, file: DicomFile, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.name = file, name
        self.frames: list[int] = []  #: numbers in the source, from 1
        self._sizes: list[int] = []
        self.first: Pixels  #: labels of the first of them
        self._pixels: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `discard`

    def add(self, labels: Pixels, number: int) -> None:
        if not self.frames:
            self.first = labels
        encoded = encode_frame(labels, _SYNTAX, 8, 8, "MONOCHROME2", 0)
        encoded += b"\0" * (len(encoded) % 2)
        self._pixels.write(b"\xfe\xff\x00\xe0" + struct.pack("<L", len(encoded)) + encoded)
        self._sizes.append(8 + len(encoded))
        self.frames.append(number)

    def save(self, path: Path, dataset: Dataset) -> None:
        """Write the frames into what highdicom made for the first of them."""
        item = dataset.PerFrameFunctionalGroupsSequence[0]
        del dataset.PerFrameFunctionalGroupsSequence, dataset.PixelData
        dataset.NumberOfFrames = len(self.frames)
        dataset.file_meta.TransferSyntaxUID = _SYNTAX
        if self.file.multi_frame:
            _index_by_time(dataset)
        with replacing(path) as temporary, temporary.open("wb") as raw:
            raw.write(b"\0" * 128 + b"DICM")
            stream = DicomIO(raw)
            stream.is_little_endian, stream.is_implicit_VR = True, False
            write_file_meta_info(stream, dataset.file_meta)
            write_dataset(stream, dataset)
            self._write_groups(raw, item)
            self._write_pixels(raw)

    def _write_groups(self, raw: IO[bytes], item: Dataset) -> None:
        """Write the Per-frame Functional Groups, an item for each frame, none of which is kept in memory."""
        raw.write(b"\x00\x52\x30\x92SQ\0\0\xff\xff\xff\xff")
        for position, number in enumerate(self.frames, 1):
            if self.file.multi_frame:
                item = _at(item, position, number)
            buffer = DicomBytesIO()
            buffer.is_little_endian, buffer.is_implicit_VR = True, False
            write_dataset(buffer, item)
            encoded = buffer.getvalue()
            raw.write(b"\xfe\xff\x00\xe0" + struct.pack("<L", len(encoded)) + encoded)
        raw.write(b"\xfe\xff\xdd\xe0\0\0\0\0")

    def _write_pixels(self, raw: IO[bytes]) -> None:
        offsets = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        table = offsets.astype("<u4").tobytes() if offsets[-1] < 1 << 32 else b""  # a larger one may be left empty
        raw.write(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0" + struct.pack("<L", len(table)) + table)
        self._pixels.seek(0)
        while chunk := self._pixels.read(1 << 20):
            raw.write(chunk)
        raw.write(b"\xfe\xff\xdd\xe0\0\0\0\0")

    def discard(self) -> None:
        self._pixels.close()


def _source_of(file: DicomFile, keep_identifiers: bool) -> Dataset:
    """Return what highdicom is told of the source: as much as a reference needs, or with patient and study."""
    header = file.header()
    missing = [
        name
        for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
        if not header.get(name)
    ]
    if missing:
        raise UserError(f"its header lacks {' and '.join(missing)}, so no segmentation can refer to it; {_REMEDY}")
    source = Dataset()
    source.file_meta = header.file_meta
    if keep_identifiers:
        source.update(header)
        # A place in the patient is of no use for a camera's pictures, and highdicom would want all of it.
        for name in ("FrameOfReferenceUID", "PixelSpacing", "NumberOfFrames"):
            source.pop(name, None)
    else:
        for name in _REFERENCE:
            if name in header:
                source[name] = header[name]
        source.PatientIdentityRemoved = "YES"
        source.DeidentificationMethod = _DEIDENTIFICATION
    for name in _PATIENT:
        source.setdefault(name, "")
    source.setdefault("Modality", "ES")
    return source


def _size_of(file: DicomFile) -> tuple[int, int]:
    """Rows and columns as a header has them; 0 where it has none, or what is no number."""
    try:
        header = file.header()
        return int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    except (UserError, TypeError, ValueError):
        return 0, 0


def _code(code: Coded) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _index_by_time(dataset: Dataset) -> None:
    """Make time the dimension along which frames are told apart."""
    index = dataset.DimensionIndexSequence[0]
    index.DimensionIndexPointer = 0x0020_9128  # Temporal Position Index
    index.FunctionalGroupPointer = 0x0020_9111  # Frame Content Sequence
    index.DimensionDescriptionLabel = "Temporal Position Index"


def _at(item: Dataset, position: int, number: int) -> Dataset:
    """Return the functional groups of a frame: where it stands, and the source's frame that it was made from."""
    content = item.FrameContentSequence[0]
    content.pop("FrameLabel", None)
    content.DimensionIndexValues = position
    content.TemporalPositionIndex = position
    item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
    return item
