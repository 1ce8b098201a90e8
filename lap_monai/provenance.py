"""Where a result comes from: versions, source revision, command line, device."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

import lap_monai

#: Distributions whose versions a result depends on.
_DISTRIBUTIONS = ("torch", "monai", "pytorch-ignite", "numpy", "scipy", "scikit-image", "pillow")


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that results depend on."""
    found = {"python": platform.python_version(), "lap_monai": lap_monai.__version__}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> dict[str, Any] | None:
    """Return `{"revision", "dirty"}` of the checkout that this package is imported from; None outside of one.

    `dirty` says whether tracked files differ from the revision.
    """
    root = Path(lap_monai.__file__).resolve().parents[1]
    top = _git(root, "rev-parse", "--show-toplevel")
    # A package installed into a virtual environment may lie inside somebody else's checkout.
    if top is None or Path(top).resolve() != root:
        return None
    revision = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": bool(changed)} if revision else None


def command_line() -> str:
    """Return the command that started this process, for a shell, with the home folder as `~`."""
    words = [Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]
    home = f"{Path.home()}/"
    return " ".join(shlex.quote(word).replace(home, "~/") if home != "//" else shlex.quote(word) for word in words)


def device_name(device: torch.device | str | None) -> str:
    """Return what the device is, in words: the GPU's model, or the number of CPU threads used."""
    device = torch.device(device or "cpu")
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {platform.machine()}, {torch.get_num_threads()} threads"


def rows_fingerprint(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a hash of datalist rows that tells whether two runs saw the same frames, wherever the data lie.

    Paths enter by their last three parts, so that the same data under another folder give the same hash.
    """
    parts = sorted(json.dumps({key: _short(value) for key, value in row.items()}, sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _short(value: Any) -> Any:
    return "/".join(Path(value).parts[-3:]) if isinstance(value, str) and ("/" in value or "\\" in value) else value


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
