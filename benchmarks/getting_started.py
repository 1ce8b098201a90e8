"""How long a newcomer takes from an empty folder to an overlay of their own: docs/getting_started.md, block by block.

Every `bash` block of the page is run as it stands, each from the top of a fresh folder with a copy of `bundles`.
Reading is not counted, nor is `make setup`, which is a matter of the network.
"""

from __future__ import annotations

import argparse
import os
import re
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/getting_started.json"))
    args = parser.parse_args()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "bundles", folder / "bundles", ignore=shutil.ignore_patterns("models", "eval"))
        environment["HOME"] = name  # a frame cache of its own
        for heading, block in blocks(PAGE.read_text(encoding="utf-8")):
            start = time.perf_counter()
            subprocess.run(["bash", "-euc", block], cwd=folder, env=environment, check=True)
            seconds[heading] = round(seconds.get(heading, 0) + time.perf_counter() - start, 1)
    report = {"seconds": seconds, "total": round(sum(seconds.values()), 1), "goal": "< 300", "machine": machine()}
    write_json(args.out, report)
    for heading, value in seconds.items():
        print(f"{heading:32s} {value:8.1f} s")
    print(f"{'total':32s} {report['total']:8.1f} s   results: {args.out}")


if __name__ == "__main__":
    main()
