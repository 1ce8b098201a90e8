"""`--write labels`: a class-index PNG for every frame."""

from __future__ import annotations

from PIL import Image

from lap_monai.files import replacing
from lap_monai.inference.source import Item
from lap_monai.inference.writer import FileWriter, Output, Prediction, register_writer


class LabelMaps(FileWriter):
    """Write `labels/NAME.png`: one channel of class ids at the frame's size, 255 where a frame was passed over."""

    def __init__(self, output: Output) -> None:
        self._folder = output.folder / "labels"

    def write(self, item: Item, prediction: Prediction) -> None:
        """Write the file of one frame."""
        with replacing(self._folder / f"{item.name}.png") as path:
            Image.fromarray(prediction.labels).save(path, compress_level=1)  # a third of the time, a tenth more bytes


register_writer("labels", LabelMaps)
