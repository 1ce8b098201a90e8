"""DICOM among the formats that `predict` knows; the packages it needs are imported when a DICOM file is met."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from lap_monai.checks import UserError
from lap_monai.inference.frames import SUFFIXES as PICTURES
from lap_monai.inference.source import Source, SourceFormat, register_source
from lap_monai.inference.writer import Output, Writer, register_writer

_REMEDY = "install it with pip install 'lap_monai[dicom]'"


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do: 128 bytes of anything, then `DICM`."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _accepts(path: Path) -> bool:
    """Whether it is a DICOM file by its first bytes or its suffix, or a folder of such files and no pictures."""
    if path.is_dir():
        names = (Path(folder, name) for folder, _, names in os.walk(path) for name in sorted(names))
        some = list(islice((name for name in names if not name.name.startswith(".")), 20))
        return any(map(is_dicom, some)) and not any(name.suffix.lower() in PICTURES for name in some)
    return path.suffix.lower() in (".dcm", ".dicom") or is_dicom(path)


def _open(path: Path) -> Source:
    try:
        from lap_monai.inference.dicom_source import DicomSource
    except ImportError as error:
        raise UserError(f"DICOM files need {error.name}; {_REMEDY}.") from error
    return DicomSource(path)


def _open_writer(output: Output) -> Writer:
    if output.source.kind != "dicom":
        raise UserError(
            "--write seg makes DICOM segmentations, which refer to the DICOM images they segment, and the input is "
            f"of kind {output.source.kind!r}; choose labels or nifti, or give DICOM files."
        )
    try:
        from lap_monai.inference.dicom_seg import DicomSegWriter
    except ImportError as error:
        raise UserError(f"DICOM segmentations need {error.name}; {_REMEDY}.") from error
    return DicomSegWriter(output)


register_source(SourceFormat("dicom", _accepts, _open))
register_writer("seg", _open_writer)
