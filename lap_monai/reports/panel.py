"""One picture of several: rows of frames side by side, for a README or a slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lap_monai.files import replacing

Pixels = NDArray[np.uint8]


def write_panel(path: str | Path, rows: Sequence[Sequence[Pixels]], width: int = 320, gap: int = 4) -> Path:
    """Write a contact sheet as PNG, whole or not at all, and return its path.

    Args:
        path: the file.
        rows: pictures `(H, W, 3)` of one size, as they stand in the sheet; rows of equal length.
        width: pixels to which each picture is scaled.
        gap: white pixels between pictures.
    """
    height = round(width * rows[0][0].shape[0] / rows[0][0].shape[1])
    columns = len(rows[0])
    sheet = Image.new("RGB", (columns * (width + gap) - gap, len(rows) * (height + gap) - gap), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(scaled, (x * (width + gap), y * (height + gap)))
    with replacing(path) as temporary:
        sheet.save(temporary, optimize=True)
    return Path(path)
