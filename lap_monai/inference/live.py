"""Live captures: a stream on this machine, or a capture device."""

from __future__ import annotations

import re

from lap_monai.inference.source import Source

_ADDRESS = re.compile(r"(rtsp|rtmp|http|https|udp|tcp|srt)://")


def is_live(where: str) -> bool:
    """Whether an input is the address of a stream or the index of a capture device."""
    return bool(_ADDRESS.match(where)) or where.isdecimal()


def open_live(where: str) -> Source:
    """Open a live capture."""
    raise NotImplementedError
