"""Labels as NIfTI files that lie on their source in any viewer."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lap_monai.files import replacing
from lap_monai.inference.nifti_source import NIFTI, NiftiFrame, NiftiGrid
from lap_monai.inference.source import Item
from lap_monai.inference.writer import Output, Prediction, register_writer
from lap_monai.keys import IGNORE_INDEX

#: Header fields that say where voxels lie. Nothing else is carried over: no description, name, time or extension.
_GEOMETRY = (
    "pixdim",
    "xyzt_units",
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
)


class NiftiWriter:
    """Class ids, uint8, in `nifti/NAME.nii.gz`.

    A NIfTI source gets one file of labels for each of its own: the same axes in the same order with the channels gone
    (their axis, if others follow, has length 1), and the same geometry, field by field, so that every viewer puts both
    in the same place by the same rule. Frames that failed or were passed over are 255.

    Any other source gets one file a frame, columns first as NIfTI has them, `(W, H)`, with the identity as affine, as
    pixels of a camera have no place in millimetres. Voxel `(x, y)` is the pixel in column x and row y from the upper
    left.
    """

    def __init__(self, output: Output) -> None:
        self._folder = output.folder / "nifti"
        self._keep = output.keep_identifiers
        self._volume: _Volume | None = None
        #: Files of single frames are whole one by one; a stack is only at its end.
        self.resumable = output.source.kind != "nifti"

    def write(self, item: Item, prediction: Prediction) -> None:
        """Take the next frame."""
        frame: NiftiFrame | None = item.meta.get(NIFTI)
        if frame is None:
            _save(nib.Nifti1Image(prediction.labels.T, np.eye(4)), self._folder / f"{item.name}.nii.gz")
            return
        if self._volume is None or self._volume.grid is not frame.grid:
            self.close()
            self._volume = _Volume(frame.grid, self._folder)
        self._volume.put(frame.frame, prediction.labels)

    def checkpoint(self, done: int) -> None:
        """Do nothing: what is written is on the disk."""

    def close(self) -> None:
        """Write the labels of the last file."""
        if self._volume is not None:
            volume, self._volume = self._volume, None
            try:
                _save(volume.image(self._keep), self._folder / f"{volume.grid.name}.nii.gz")
            finally:
                volume.remove()

    def abort(self) -> None:
        """Drop a file of labels that is not whole."""
        if self._volume is not None:
            self._volume.remove()
            self._volume = None


register_writer("nifti", NiftiWriter)


class _Volume:
    """Labels of one file while they come in, on the disk."""

    def __init__(self, grid: NiftiGrid, folder: Path) -> None:
        self.grid = grid
        folder.mkdir(parents=True, exist_ok=True)
        shape = grid.layout.label_shape
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - without a name; closed by `remove`
        # Written once as a file, since a full disk is an error there and a crash in a memory map.
        for _ in range(grid.layout.frames):
            self._file.write(bytes([IGNORE_INDEX]) * (shape[0] * shape[1]))
        self._file.flush()
        self._labels = np.memmap(self._file, np.uint8, "r+", shape=shape, order="F")

    def put(self, frame: int, labels: np.ndarray) -> None:
        self._labels[self.grid.layout.label_index(frame)] = self.grid.layout.turn(labels)

    def image(self, keep_identifiers: bool) -> Any:
        source = self.grid.image
        header = source.header.copy() if keep_identifiers else type(source.header)()
        for name in _GEOMETRY:
            header[name] = source.header[name]
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1, 0)
        header.set_intent("label")
        return type(source)(self._labels, None, header)

    def remove(self) -> None:
        del self._labels
        self._file.close()


def _save(image: Any, path: Path) -> None:
    # No file name and no time in gzip's header: the same labels are the same bytes.
    with (
        replacing(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
    ):
        image.to_stream(packed)
