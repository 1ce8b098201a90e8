"""`--write probabilities` and `--write uncertainty`: what the network was sure of, compactly."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lap_monai.checks import UserError
from lap_monai.files import replacing
from lap_monai.inference.source import Item
from lap_monai.inference.writer import FileWriter, Output, Prediction, register_writer


class ProbabilityMaps(FileWriter):
    """Write `probabilities/NAME.npz`: `probabilities`, uint8 `(C, h, w)` at the network's size, 255 being 1.

    Steps of 1/255 in a compressed archive; `classes` holds the names. Frames passed over have no file.
    """

    def __init__(self, output: Output) -> None:
        self._folder = output.folder / "probabilities"
        self._classes = np.array(output.label_space.classes)

    def write(self, item: Item, prediction: Prediction) -> None:
        """Write the file of one frame."""
        if prediction.skipped is None:
            rounded = np.rint(prediction.probabilities * 255).astype(np.uint8)
            with replacing(self._folder / f"{item.name}.npz") as path:
                np.savez_compressed(path, probabilities=rounded, classes=self._classes)


class UncertaintyMaps(FileWriter):
    """Write `uncertainty/NAME.png`: normalised entropy at the network's size, 8 bits, 255 being 1."""

    def __init__(self, output: Output) -> None:
        self._folder = output.folder / "uncertainty"

    def write(self, item: Item, prediction: Prediction) -> None:
        """Write the file of one frame.

        Raises:
            UserError: if the predictor was not asked for uncertainty.
        """
        if prediction.skipped is not None:
            return
        if prediction.uncertainty is None:
            raise UserError("Uncertainty maps need the predictor's uncertainty; add --uncertainty.")
        with replacing(self._folder / f"{item.name}.png") as path:
            Image.fromarray(np.rint(prediction.uncertainty * 255).astype(np.uint8)).save(path, compress_level=1)


register_writer("probabilities", ProbabilityMaps)
register_writer("uncertainty", UncertaintyMaps)
