"""Bundles packed for places where this package is not installed."""

from lap_monai.packaging.archive import PackedBundle, pack_bundle
from lap_monai.packaging.modules import PACKED_PACKAGE, pack_names, pack_source, package_files

__all__ = ["PACKED_PACKAGE", "PackedBundle", "pack_bundle", "pack_names", "pack_source", "package_files"]
