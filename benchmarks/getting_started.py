"""How long a newcomer takes from an empty folder to an overlay of their own: docs/getting_started.md, block by block.

Every `bash` block of the page is run as it stands, each from the top of a fresh folder with a copy of `bundles`.
Reading is not counted, nor is `make setup`, which is a matter of the network. Processor time stands beside the clock's:
it says what a machine that is busy otherwise would take if it were not.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import machine

from lap_monai.files import write_json

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "getting_started.md"


def blocks(page: str) -> list[tuple[str, str]]:
    """The `bash` blocks of a page, each with the heading above it."""
    found = re.findall(r"^## ([^\n]+)$|^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    heading, result = "", []
    for title, block in found:
        heading = title or heading
        if block:
            result.append((heading, block))
    return result


def processor_seconds() -> float:
    """Time that the processes of the page have computed so far, all cores added up."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/getting_started.json"))
    args = parser.parse_args()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    parts: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "bundles", folder / "bundles", ignore=shutil.ignore_patterns("models", "eval"))
        environment["HOME"] = name  # a frame cache of its own
        for heading, block in blocks(PAGE.read_text(encoding="utf-8")):
            start, processor = time.perf_counter(), processor_seconds()
            subprocess.run(["bash", "-euc", block], cwd=folder, env=environment, check=True)
            part = parts.setdefault(heading, {"seconds": 0.0, "processor_seconds": 0.0})
            part["seconds"] += time.perf_counter() - start
            part["processor_seconds"] += processor_seconds() - processor
    parts["total"] = {key: sum(part[key] for part in parts.values()) for key in ("seconds", "processor_seconds")}
    rounded = {heading: {key: round(value, 1) for key, value in part.items()} for heading, part in parts.items()}
    write_json(args.out, {"parts": rounded, "goal": "total below 300 seconds", "machine": machine()})
    for heading, part in rounded.items():
        print(f"{heading:32s} {part['seconds']:8.1f} s, {part['processor_seconds']:8.1f} s of processors")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
