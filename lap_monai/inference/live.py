"""Live captures: a stream on this machine, or a capture device."""

from __future__ import annotations

import ipaddress
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lap_monai.checks import UserError
from lap_monai.inference.source import Failure, Item
from lap_monai.inference.video import frame_name, import_av, open_container, rgb

if TYPE_CHECKING:
    from av.container import InputContainer

_SCHEMES = ("rtsp", "rtmp", "http", "udp", "tcp", "srt")
#: Capture interfaces that FFmpeg has on each system, and how they name the device of an index.
_DEVICES = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}
#: Seconds without a frame after which a capture counts as ended.
_PATIENCE = 10.0


class LiveCapture:
    """Frames as they come; the pipeline drops those that it has no time for, and counts them.

    Times are seconds since the first frame by this machine's clock.

    Args:
        where: an address on this machine (`rtsp://127.0.0.1:8554/scope`), or a device index (`"0"`).

    Raises:
        UserError: if the address is of another machine, nothing answers there, or no picture comes.
    """

    kind = "live"
    total = None
    fingerprint = "live"

    def __init__(self, where: str) -> None:
        self._where = where
        if not where.isdecimal():
            _require_loopback(where)
        self._container = _open(where)
        rate = self._container.streams.video[0].average_rate
        self.fps: float | None = float(rate) if rate else None

    def items(self, start: int = 0) -> Iterator[Item | Failure]:
        """Yield frames until the stream ends; `start` only counts on from an earlier capture."""
        av = import_av()
        begun = None
        with self._container as container:
            frames = container.decode(video=0)
            index = start
            while True:
                try:
                    frame = next(frames)
                except (StopIteration, av.error.FFmpegError):  # the sender stopped, or was silent for too long
                    return
                now = time.monotonic()
                begun = now if begun is None else begun
                yield Item(frame_name(index), index, rgb(frame), round(now - begun, 6))
                index += 1


def is_live(where: str) -> bool:
    """Whether an input is the address of a stream or the index of a capture device."""
    return where.isdecimal() or (urlsplit(where).scheme in (*_SCHEMES, "https") and "://" in where)


def open_live(where: str) -> LiveCapture:
    """Open a live capture; raises what `LiveCapture` raises."""
    return LiveCapture(where)


def _require_loopback(where: str) -> None:
    host = urlsplit(where).hostname or ""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        raise UserError(
            f"The stream of {host!r} would come over a network; only this machine's are read. Receive it with your "
            "recorder's own software and relay it to 127.0.0.1."
        )


def _open(where: str) -> InputContainer:
    if not where.isdecimal():
        return open_container(where, f"The stream {where!r}", "see that something sends it", timeout=_PATIENCE)
    interface, device = _DEVICES.get(sys.platform, _DEVICES["linux"])
    options: dict[str, Any] = {"format": interface}
    return open_container(device.format(where), f"The capture device {where}", "see that it is plugged in", **options)
