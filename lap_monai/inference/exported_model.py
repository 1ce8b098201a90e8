"""Exported forms of a network beside its weights, and the record that says which weights they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lap_monai.checks import UserError
from lap_monai.files import read_json, write_json

if TYPE_CHECKING:
    from lap_monai.inference.bundle import Bundle

#: Form → its files, the one that a runtime is given first, relative to the folder of the weights.
EXPORT_FILES = {
    "torchscript": ("model.ts",),
    "onnx": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "openvino-int8": ("model_int8.xml", "model_int8.bin"),
    "triton": ("triton/model/config.pbtxt", "triton/model/1/model.onnx"),
}


def export_record(bundle: Bundle, form: str) -> Path:
    """Return where the record of an export lies."""
    return bundle.weights.parent / f"export_{form}.json"


def write_export_record(bundle: Bundle, form: str, more: Mapping[str, Any]) -> Path:
    """Write down the hashes of exported files and of the weights they come from, and what was measured of them."""
    folder = bundle.weights.parent
    record = {
        "form": form,
        "bundle": {"name": bundle.name, "version": bundle.version},
        "weights_sha256": bundle.weights_sha256,
        "files": {name: file_sha256(folder / name) for name in EXPORT_FILES[form]},
        **more,
    }
    return write_json(export_record(bundle, form), record)


def exported_model(bundle: Bundle, form: str) -> Path | None:
    """Return the first file of an export of this very network; None if there is none, or only one of other weights.

    Raises:
        UserError: if a file is not as it was exported.
    """
    path = export_record(bundle, form)
    if not path.is_file():
        return None
    record = read_json(path)
    if record["weights_sha256"] != bundle.weights_sha256:
        return None
    for name, expected in record["files"].items():
        file = path.parent / name
        if not file.is_file() or file_sha256(file) != expected:
            raise UserError(f"{str(file)!r} is not the file that was exported; run export --to {form} again.")
    return path.parent / EXPORT_FILES[form][0]


def file_sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
