"""`python -m lap_monai package`: a bundle as a model-zoo archive that needs no lap_monai."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from lap_monai.packaging import PackedBundle, pack_bundle

#: Files beyond this must not lie in the model zoo's repository; they are uploaded and named in large_files.yml.
ZOO_LIMIT = 25 * 10**6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE_DIR", help="the bundle's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.zip", help="archive to write")
    parser.add_argument(
        "--weights", type=Path, metavar="MODEL.pt", help="weights to include (default: the bundle's models/model.pt)"
    )
    parser.add_argument("--force", action="store_true", help="replace an archive that exists")


def main(args: argparse.Namespace) -> int:
    """Write the archive and say what to do next."""
    packed = pack_bundle(args.bundle, args.out, args.weights, args.force)
    print(f"wrote {packed.path}: {len(packed.files)} files, {packed.size / 1e6:.2f} MB")
    print(f"sha256: {packed.sha256}")
    print(_about_weights(packed))
    config = "inference" if packed.weights_size else "train"
    data = "FRAMES" if packed.weights_size else "DATA"
    print(
        f"next: unzip {shlex.quote(str(packed.path))} && cd {packed.name} && "
        f"python -m monai.bundle run --config_file configs/{config}.json --dataset_dir {data}"
    )
    return 0


def _about_weights(packed: PackedBundle) -> str:
    if not packed.weights_size:
        return "weights: none; training leaves models/model.pt"
    text = f"weights: models/model.pt, {packed.weights_size / 1e6:.1f} MB"
    if packed.weights_size > ZOO_LIMIT:
        text += (
            ", over the model zoo's 25 MB: to submit there, upload the file and list it in large_files.yml "
            f"with hash_type sha256, hash_val {packed.weights_sha256}"
        )
    return text
