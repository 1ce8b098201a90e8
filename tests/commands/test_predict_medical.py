"""`predict` on NIfTI and DICOM, end to end: labels in place, segmentations that refer, nothing that identifies."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from command_line import CommandLine
from medical_phantoms import SECRETS, Frames, encode_video, moving_picture, save_native, save_video
from PIL import Image
from pydicom.uid import MPEG4HP41, generate_uid

from lap_monai.inference import Bundle, Item, Predictor, open_source
from lap_monai.inference.terminology import segment_numbers

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:NIfTI frames are read so")]

FRAMES = moving_picture(5)


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> Predictor:
    """What the command runs, on frames that the test has."""
    return Predictor(Bundle.open(tiny_run))


def labels_by(predictor: Predictor, frames: Frames) -> Frames:
    return np.stack([prediction.labels for prediction in predictor(list(frames))])


def write_nifti(folder: Path) -> Path:
    image = nib.Nifti1Image(np.moveaxis(FRAMES, (0, 1, 2), (3, 1, 0)), np.diag([0.5, 0.25, 2, 1]))  # (W, H, 3, T)
    image.header["descrip"] = " ".join(SECRETS).encode()[:79]
    image.header["db_name"] = SECRETS[2].encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", " ".join(SECRETS).encode()))
    nib.save(image, folder / f"{SECRETS[0]}.nii.gz")
    return folder / f"{SECRETS[0]}.nii.gz"


def write_multi_frame(folder: Path) -> Path:
    return save_native(folder / f"{SECRETS[0]}.dcm", FRAMES)


def write_video(folder: Path) -> Path:
    stream = encode_video(FRAMES, "libx264", "mp4", tag=" ".join(SECRETS))
    assert SECRETS[0].encode() in stream
    return save_video(folder / f"{SECRETS[0]}.dcm", FRAMES, MPEG4HP41, stream)


def write_series(folder: Path) -> Path:
    """A folder of single frames, in an order that only their numbers tell."""
    series = folder / SECRETS[0]
    series.mkdir()
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    for number, frame in enumerate(FRAMES):
        save_native(series / f"{SECRETS[2]}_{9 - number}.dcm", frame[None], InstanceNumber=number, **uids)
    return series


INPUTS = {"nifti": write_nifti, "multi-frame": write_multi_frame, "video": write_video, "series": write_series}
DICOM = [kind for kind in INPUTS if kind != "nifti"]


def make_input(kind: str, folder: Path) -> Path:
    private = folder / SECRETS[4]  # a folder whose name must not leak, either
    private.mkdir()
    return INPUTS[kind](private)


def test_nifti(cli: CommandLine, tiny_run: Path, predictor: Predictor, tmp_path: Path) -> None:
    path = make_input("nifti", tmp_path)
    assert cli("predict", path, "--bundle", tiny_run, "--out", cli.out, "--write", "labels,nifti").status == 0
    expected = labels_by(predictor, FRAMES)
    assert len(np.unique(expected)) > 1
    labels: Any = nib.load(cli.out / "nifti/labels.nii.gz")
    np.testing.assert_array_equal(labels.affine, nib.load(path).affine)  # type: ignore[attr-defined]
    assert labels.shape == (80, 48, 1, 5)
    np.testing.assert_array_equal(np.asarray(labels.dataobj)[:, :, 0], expected.transpose(2, 1, 0))
    maps = [np.asarray(Image.open(cli.out / f"labels/{i:06d}.png")) for i in range(5)]
    np.testing.assert_array_equal(np.stack(maps), expected)


@pytest.mark.parametrize("kind", DICOM)
def test_dicom(kind: str, cli: CommandLine, tiny_run: Path, predictor: Predictor, tmp_path: Path) -> None:
    path = make_input(kind, tmp_path)
    outcome = cli("predict", path, "--bundle", tiny_run, "--out", cli.out, "--write", "labels,nifti,seg")
    assert outcome.status == 0, outcome.err
    images = [item.image for item in open_source(path).items() if isinstance(item, Item)]
    expected = labels_by(predictor, np.stack(images))
    files = sorted((cli.out / "seg").iterdir())
    assert len(files) == (5 if kind == "series" else 1)
    found = np.concatenate([pydicom.dcmread(file).pixel_array.reshape(-1, 48, 80) for file in files])
    np.testing.assert_array_equal(found, segment_numbers(predictor.bundle.label_space.classes)[expected])
    for i in range(5):
        np.testing.assert_array_equal(np.asarray(Image.open(cli.out / f"labels/{i:06d}.png")), expected[i])
        labels: Any = nib.load(cli.out / f"nifti/{i:06d}.nii.gz")
        np.testing.assert_array_equal(np.asarray(labels.dataobj), expected[i].T)


def test_a_segmentation_of_other_inputs_is_refused_in_a_line(cli: CommandLine, tiny_run: Path, tmp_path: Path) -> None:
    path = make_input("nifti", tmp_path)
    error = cli("predict", path, "--bundle", tiny_run, "--out", cli.out, "--write", "seg").error
    assert "refer to the DICOM images" in error


def test_a_damaged_file_is_named_in_a_line(cli: CommandLine, tiny_run: Path, tmp_path: Path) -> None:
    path = make_input("multi-frame", tmp_path)
    path.write_bytes(path.read_bytes()[:20000])
    assert "truncated" in cli("predict", path, "--bundle", tiny_run, "--out", cli.out).error


@pytest.mark.parametrize("kind", INPUTS)
def test_no_output_identifies_the_patient(kind: str, cli: CommandLine, tiny_run: Path, tmp_path: Path) -> None:
    """Every byte of every file, unpacked where compressed, and every name."""
    path = make_input(kind, tmp_path)
    write = "labels,overlay,probabilities,report,nifti" + (",seg" if kind in DICOM else "")
    assert cli("predict", path, "--bundle", tiny_run, "--out", cli.out, "--write", write).status == 0
    uids = set() if kind == "nifti" else uids_of(path)
    files = [file for file in cli.out.rglob("*") if file.is_file()]
    assert {"run.json", "frames.csv", "report.html"} <= {file.name for file in files}
    for file in files:
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        leaks = [secret for secret in (*SECRETS, str(tmp_path)) if secret.encode() in content]
        assert not leaks, (file.name, leaks)
        assert not [secret for secret in SECRETS if secret in file.relative_to(cli.out).as_posix()]
        if file.parent.name != "seg":  # which could not refer to its source without
            assert not [uid for uid in uids if uid.encode() in content], file.name


def uids_of(path: Path) -> set[str]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    elements = [header[name].value for header in headers for name in ("SOPInstanceUID", "StudyInstanceUID")]
    return {str(element) for element in elements}


def test_patient_and_study_go_into_segmentations_when_asked_for(
    cli: CommandLine, tiny_run: Path, tmp_path: Path
) -> None:
    path = make_input("multi-frame", tmp_path)
    words = ("--write", "seg", "--keep-identifiers")
    assert cli("predict", path, "--bundle", tiny_run, "--out", cli.out, *words).status == 0
    assert pydicom.dcmread(cli.out / "seg/000000.dcm").PatientID == SECRETS[2]
