"""Bundles packed for places where this package is not installed, and exported for other runtimes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lap_monai.packaging.archive import PackedBundle, pack_bundle
from lap_monai.packaging.modules import PACKED_PACKAGE, pack_names, pack_source, package_files
from lap_monai.packaging.triton import triton_config

if TYPE_CHECKING:
    from lap_monai.packaging.export import ExportFrames, export_bundle
    from lap_monai.packaging.parity import parity_report

# Imported on first use: torch and MONAI cost seconds, which packing files is spared.
_ON_USE = {"ExportFrames": "export", "export_bundle": "export", "parity_report": "parity"}

__all__ = [
    "PACKED_PACKAGE",
    "ExportFrames",
    "PackedBundle",
    "export_bundle",
    "pack_bundle",
    "pack_names",
    "pack_source",
    "package_files",
    "parity_report",
    "triton_config",
]


def __getattr__(name: str) -> Any:
    if name not in _ON_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ON_USE[name]}"), name)
