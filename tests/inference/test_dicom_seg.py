"""DICOM segmentations: read back by highdicom and pydicom, references, codes, privacy, memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from highdicom import _standard_utils as standard
from medical_phantoms import (
    SECRETS,
    encode_video,
    labels_of,
    moving_picture,
    save_native,
    save_video,
)
from pydicom.uid import MPEG4HP41, MultiFrameTrueColorSecondaryCaptureImageStorage, generate_uid

from lap_monai.checks import UserError
from lap_monai.inference import Options, Predictor, predict
from lap_monai.inference.dicom_seg import DicomSegWriter
from lap_monai.inference.dicom_source import DicomSource
from lap_monai.inference.source import Item
from lap_monai.inference.terminology import PRIVATE_SCHEME, segment_numbers, term_of
from lap_monai.inference.writer import Output, Prediction, open_writers
from lap_monai.label_space import LABEL_SPACES, LabelSpace, get_label_space

FRAMES = moving_picture(6)
SPACE = get_label_space("cholecseg8k_zhang8")


def segment(
    path: Path, folder: Path, space: LabelSpace = SPACE, skip: tuple[int, ...] = (), keep: bool = False
) -> list[Path]:
    """Write the stand-in network's labels of a DICOM file or folder, and return the segmentations."""
    source = DicomSource(path)
    writer = DicomSegWriter(Output(folder, source, space, keep_identifiers=keep))
    for item in source.items():
        assert isinstance(item, Item)
        labels = labels_of(item.image, space.num_classes)
        skipped = item.index in skip
        writer.write(
            item, Prediction(np.full_like(labels, 255) if skipped else labels, skipped="black" if skipped else None)
        )
    writer.close()
    return sorted((folder / "seg").iterdir())


def expected_labels(path: Path, space: LabelSpace = SPACE) -> np.ndarray:
    images = [item.image for item in DicomSource(path).items() if isinstance(item, Item)]
    return segment_numbers(space.classes)[np.stack([labels_of(image, space.num_classes) for image in images])]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Video Endoscopic Image of six frames."""
    path = tmp_path_factory.mktemp("video") / "video.dcm"
    return save_video(path, FRAMES, MPEG4HP41, encode_video(FRAMES, "libx264", "h264"))


@pytest.mark.parametrize("space", LABEL_SPACES.values(), ids=list(LABEL_SPACES))
@pytest.mark.parametrize("count", [1, 6])
def test_labels_come_back_from_highdicom_and_pydicom(count: int, space: LabelSpace, tmp_path: Path) -> None:
    source = save_native(tmp_path / "a.dcm", FRAMES[:count])
    (path,) = segment(source, tmp_path, space)
    expected = expected_labels(source, space)
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array.reshape(expected.shape), expected)
    seg = hd.seg.segread(path)
    assert seg.segmentation_type == hd.seg.SegmentationTypeValues.LABELMAP
    uid = pydicom.dcmread(source).SOPInstanceUID
    if count == 1:
        pixels = seg.get_pixels_by_source_instance([uid], combine_segments=True)
    else:
        pixels = seg.get_pixels_by_source_frame(uid, range(1, count + 1), combine_segments=True)
    np.testing.assert_array_equal(pixels, expected)


def test_videos(video: Path, tmp_path: Path) -> None:
    (path,) = segment(video, tmp_path)
    source = pydicom.dcmread(video, stop_before_pixels=True)
    seg = hd.seg.segread(path)
    pixels = seg.get_pixels_by_source_frame(source.SOPInstanceUID, [2, 5], combine_segments=True)
    np.testing.assert_array_equal(pixels, expected_labels(video)[[1, 4]])
    assert seg.NumberOfFrames == 6
    assert (seg.Rows, seg.Columns) == FRAMES.shape[1:3]


def test_frames_say_what_they_were_made_from(video: Path, tmp_path: Path) -> None:
    """Frames that were passed over have none; the others keep the numbers of the source's."""
    (path,) = segment(video, tmp_path, skip=(0, 3))
    source, seg = pydicom.dcmread(video, stop_before_pixels=True), pydicom.dcmread(path)
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    references = [
        group.DerivationImageSequence[0].SourceImageSequence[0] for group in seg.PerFrameFunctionalGroupsSequence
    ]
    assert [reference.ReferencedFrameNumber for reference in references] == [2, 3, 5, 6]
    assert {reference.ReferencedSOPInstanceUID for reference in references} == {source.SOPInstanceUID}
    assert {reference.ReferencedSOPClassUID for reference in references} == {source.SOPClassUID}
    np.testing.assert_array_equal(seg.pixel_array, expected_labels(video)[[1, 2, 4, 5]])


def test_frames_are_indexed_along_time(video: Path, tmp_path: Path) -> None:
    seg = pydicom.dcmread(segment(video, tmp_path)[0])
    (dimension,) = seg.DimensionIndexSequence
    assert pydicom.datadict.keyword_for_tag(dimension.DimensionIndexPointer) == "TemporalPositionIndex"
    assert pydicom.datadict.keyword_for_tag(dimension.FunctionalGroupPointer) == "FrameContentSequence"
    contents = [group.FrameContentSequence[0] for group in seg.PerFrameFunctionalGroupsSequence]
    assert [content.DimensionIndexValues for content in contents] == list(range(1, 7))
    assert [content.TemporalPositionIndex for content in contents] == list(range(1, 7))


@pytest.mark.parametrize("count", [1, 6])
def test_what_is_written_is_what_pydicom_writes(count: int, tmp_path: Path) -> None:
    """Our own writing of groups and pixels, against pydicom's of the same data set: the same elements in order."""
    (path,) = segment(save_native(tmp_path / "a.dcm", FRAMES[:count]), tmp_path)
    ours = pydicom.dcmread(path)
    ours.save_as(tmp_path / "theirs.dcm", enforce_file_format=True)
    theirs = pydicom.dcmread(tmp_path / "theirs.dcm")
    assert list(ours) == list(theirs)
    tags = list(ours.keys())
    assert tags == sorted(tags)
    assert ours.file_meta.MediaStorageSOPInstanceUID == ours.SOPInstanceUID


#: Groups that are conditional on a frame of reference, and what label maps, unlike bit planes, do not have.
WITHOUT_A_PLACE = {
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlanePositionSlideSequence",
    "PlaneOrientationSequence",
    "SegmentIdentificationSequence",
}


@pytest.mark.parametrize("count", [1, 6])
def test_every_attribute_that_the_standard_demands_is_there(count: int, tmp_path: Path) -> None:
    """Types 1 and 2 of all mandatory modules, by the standard's own tables as highdicom ships them."""
    seg = pydicom.dcmread(segment(save_native(tmp_path / "a.dcm", FRAMES[:count]), tmp_path)[0])
    iod = standard.get_sop_class_iod_map()[seg.SOPClassUID]
    modules = [module["key"] for module in standard.get_iod_module_map()[iod] if module["usage"] == "M"]
    assert {"segmentation-image", "multi-frame-dimension", "general-series"} <= set(modules)
    checked = 0
    for module in modules:
        for attribute in standard.get_module_attribute_map()[module]:
            keyword, type_, path = attribute["keyword"], attribute["type"], attribute["path"]
            # Each group is either shared or a frame's; ours are all a frame's.
            if type_ not in ("1", "2") or path[:1] == ["SharedFunctionalGroupsSequence"] or keyword in WITHOUT_A_PLACE:
                continue
            for holder in holders(seg, path):
                assert keyword in holder, (module, attribute)
                assert type_ == "2" or holder[keyword].value not in (None, ""), (module, attribute)
                checked += 1
    assert checked > 100


def holders(dataset: pydicom.Dataset, path: list[str]) -> list[pydicom.Dataset]:
    """The data sets at a path of sequences; none where one of them is left out."""
    found = [dataset]
    for keyword in path:
        found = [item for holder in found for item in holder.get(keyword) or []]
    return found


def test_segments_carry_the_codes_and_colours_of_their_classes(tmp_path: Path) -> None:
    space = get_label_space("endoscapes_7")
    seg = hd.seg.segread(segment(save_native(tmp_path / "a.dcm", FRAMES[:1]), tmp_path, space)[0])
    assert list(seg.segment_numbers) == list(range(1, 7))
    for number, name in enumerate(space.classes[1:], 1):
        segment_, term = seg.get_segment_description(number), term_of(name)
        assert segment_.segment_label == name
        assert segment_.segmented_property_category == hd.sr.CodedConcept(*term.category)
        assert segment_.segmented_property_type == hd.sr.CodedConcept(*term.type)
        modifiers = segment_.SegmentedPropertyTypeCodeSequence[0].get("SegmentedPropertyTypeModifierCodeSequence", [])
        assert [code.CodingSchemeDesignator for code in modifiers] == [PRIVATE_SCHEME] * (term.modifier is not None)
        shown = hd.color.CIELabColor.from_dicom_value(segment_.RecommendedDisplayCIELabValue).to_rgb()
        assert np.abs(np.subtract(shown, space.colours[number])).max() <= 1
    background = seg.SegmentSequence[0]
    assert (background.SegmentNumber, background.SegmentLabel) == (0, "Background")


def test_the_multi_frame_kinds_of_other_devices(tmp_path: Path) -> None:
    source = save_native(tmp_path / "a.dcm", FRAMES, SOPClassUID=MultiFrameTrueColorSecondaryCaptureImageStorage)
    (path,) = segment(source, tmp_path)
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, expected_labels(source))


def test_a_frame_of_reference_does_not_disturb(tmp_path: Path) -> None:
    source = save_native(tmp_path / "a.dcm", FRAMES, FrameOfReferenceUID=generate_uid())
    for keep in (False, True):
        (path,) = segment(source, tmp_path / str(keep), keep=keep)
        np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, expected_labels(source))


def test_one_segmentation_for_each_file_of_a_folder(tmp_path: Path) -> None:
    folder, series, study = tmp_path / "in", generate_uid(), generate_uid()
    folder.mkdir()
    for number in range(3):
        save_native(
            folder / f"{number}.dcm",
            FRAMES[number : number + 1],
            SeriesInstanceUID=series,
            StudyInstanceUID=study,
            InstanceNumber=number,
        )
    paths = segment(folder, tmp_path)
    assert [path.name for path in paths] == ["000000.dcm", "000001.dcm", "000002.dcm"]
    segs = [pydicom.dcmread(path) for path in paths]
    for number, seg in enumerate(segs):
        source = pydicom.dcmread(folder / f"{number}.dcm")
        assert seg.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        np.testing.assert_array_equal(seg.pixel_array, expected_labels(folder / f"{number}.dcm")[0])
    assert len({seg.SeriesInstanceUID for seg in segs}) == 1
    assert len({seg.SOPInstanceUID for seg in segs}) == 3
    assert [seg.InstanceNumber for seg in segs] == [1, 2, 3]


def test_names_are_the_numbers_of_first_frames(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, count in (("a", 2), ("b", 3), ("c", 1)):
        save_native(folder / f"{name}.dcm", FRAMES[:count])
    assert [path.name for path in segment(folder, tmp_path, skip=(2,))] == ["000000.dcm", "000002.dcm", "000005.dcm"]


def test_a_lossy_source_is_told(tmp_path: Path) -> None:
    attributes = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 20,
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    seg = pydicom.dcmread(segment(save_native(tmp_path / "a.dcm", FRAMES, **attributes), tmp_path)[0])
    assert {name: seg.get(name) for name in attributes} == attributes


def test_nothing_is_written_when_every_frame_was_passed_over(tmp_path: Path) -> None:
    assert segment(save_native(tmp_path / "a.dcm", FRAMES[:2]), tmp_path, skip=(0, 1)) == []


def test_an_aborted_writer_leaves_nothing(video: Path, tmp_path: Path) -> None:
    source = DicomSource(video)
    writer = DicomSegWriter(Output(tmp_path, source, SPACE))
    item = next(iter(source.items()))
    assert isinstance(item, Item)
    writer.write(item, Prediction(labels_of(item.image)))
    writer.abort()
    assert list((tmp_path / "seg").iterdir()) == []


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    peaks = []
    for count in (20, 200):
        source = save_native(tmp_path / f"{count}.dcm", np.tile(moving_picture(10, 64, 96), (count // 10, 1, 1, 1)))
        tracemalloc.start()
        segment(source, tmp_path / str(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    per_frame = (peaks[1] - peaks[0]) / 180
    assert per_frame < 64 * 96 / 8, "bytes: some numbers, neither labels nor functional groups"


# --- refusals ------------------------------------------------------------------------------------------------------


def test_other_inputs_are_refused_before_the_first_frame(tmp_path: Path) -> None:
    from lap_monai.inference import FrameFiles

    (tmp_path / "a.png").touch()
    output = Output(tmp_path, FrameFiles.open(tmp_path), SPACE)
    with pytest.raises(
        UserError, match=r"--write seg makes DICOM segmentations.*kind 'frames'; choose labels or nifti"
    ):
        open_writers(["seg"], output)


def test_a_class_without_a_code_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    space = LabelSpace("own", "own", ("Background", "Unicorn"), ((0, 0, 0), (1, 1, 1)), {0: 0, 1: 1}, (), "test")
    output = Output(tmp_path, DicomSource(save_native(tmp_path / "a.dcm", FRAMES)), space)
    with pytest.raises(UserError, match="'Unicorn' has no DICOM code"):
        DicomSegWriter(output)


def test_a_source_without_identity_cannot_be_referred_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lacks SeriesInstanceUID, so no segmentation can refer to it"):
        segment(save_native(tmp_path / "a.dcm", FRAMES, SeriesInstanceUID=""), tmp_path)


def run(path: Path, folder: Path, predictor: Predictor) -> dict[str, Any]:
    """`predict --write labels,seg`."""
    return predict(DicomSource(path), predictor, folder, Options(write=("labels", "seg"), compare=False))


@pytest.mark.parametrize(
    ("attributes", "cause"),
    [
        ({"StudyInstanceUID": ""}, "lacks StudyInstanceUID"),
        ({"Rows": 40}, "says 80x40 pixels, but the frame has 80x48"),
        ({"Rows": None}, "lacks rows or columns"),
        ({"SOPInstanceUID": [generate_uid(), generate_uid()]}, "does not allow a segmentation (TypeError)"),
    ],
)
def test_a_header_that_no_segmentation_can_refer_to_fails_its_file_alone(
    attributes: dict[str, Any], cause: str, video: Path, tmp_path: Path, predictor: Predictor
) -> None:
    folder, series = tmp_path / "in", generate_uid()
    folder.mkdir()
    save_native(folder / "a.dcm", FRAMES[:2], SeriesInstanceUID=series)
    stream = encode_video(FRAMES, "libx264", "h264")
    save_video(folder / "b.dcm", FRAMES, MPEG4HP41, stream, SeriesInstanceUID=series, InstanceNumber=2, **attributes)
    save_native(folder / "c.dcm", FRAMES[:1], SeriesInstanceUID=series, InstanceNumber=3)
    seen = []
    prepare = predictor.prepare
    predictor.prepare = lambda image: seen.append(1) or prepare(image)  # type: ignore[method-assign, func-returns-value]
    record = run(folder, tmp_path / "out", predictor)
    assert record["status"] == "completed"
    assert record["frames"] == {"ok": 3, "failed": 6, "dropped": 0}
    assert len(seen) == 3, "the network sees none of the file's frames"
    assert [failure["name"] for failure in record["failures"]] == [f"{index:06d}" for index in range(2, 8)]
    assert all(cause in failure["error"] for failure in record["failures"])
    assert sorted(path.name for path in (tmp_path / "out/seg").iterdir()) == ["000000.dcm", "000008.dcm"]


# --- privacy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 6])
def test_nothing_of_the_source_but_its_uids_is_carried_over(count: int, tmp_path: Path) -> None:
    source = save_native(tmp_path / f"{SECRETS[0]}.dcm", FRAMES[:count])
    (path,) = segment(source, tmp_path / "out")
    content = path.read_bytes()
    assert not [secret for secret in SECRETS if secret.encode() in content]
    theirs = {
        str(element.value)
        for element in pydicom.dcmread(source, stop_before_pixels=True).iterall()
        if element.VR == "UI" and not str(element.value).startswith("1.2.840.10008.")
    }
    assert len(theirs) == 3, "instance, series and study"
    assert all(uid.encode() in content for uid in theirs)
    seg = pydicom.dcmread(path)
    assert seg.PatientIdentityRemoved == "YES"
    assert "source UIDs retained" in seg.DeidentificationMethod


def test_patient_and_study_are_kept_when_asked_for(tmp_path: Path) -> None:
    source = save_native(tmp_path / "a.dcm", FRAMES)
    (path,) = segment(source, tmp_path, keep=True)
    seg, theirs = pydicom.dcmread(path), pydicom.dcmread(source)
    kept: list[Any] = ["PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyInstanceUID"]
    assert [seg[name].value for name in kept] == [theirs[name].value for name in kept]
    assert "PatientIdentityRemoved" not in seg
