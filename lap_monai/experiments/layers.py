"""Merging configs of which some are settings that lie in no file yet."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lap_monai.checks import UserError
from lap_monai.experiments.config_merge import merge_configs
from lap_monai.files import write_json

#: A config file, or (what to call them, settings).
Layer = Path | tuple[str, Mapping[str, Any]]


def merge_layers(layers: Sequence[Layer]) -> dict[str, Any]:
    """Merge as `merge_configs` does, in the given order.

    Raises:
        UserError: as `merge_configs`, calling settings by their name.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [_file(layer, Path(folder) / f"{place}.json") for place, layer in enumerate(layers)]
        try:
            return merge_configs(files)
        except UserError as error:
            text = str(error)
            for file, layer in zip(files, layers, strict=True):
                text = text.replace(repr(str(file)), layer[0]) if isinstance(layer, tuple) else text
            raise UserError(text) from error


def _file(layer: Layer, path: Path) -> Path:
    return write_json(path, layer[1]) if isinstance(layer, tuple) else layer
