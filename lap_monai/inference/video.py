"""Video files, by PyAV: any length at constant memory, frame times as the container has them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lap_monai.checks import UserError
from lap_monai.inference.source import Failure, Item, SourceFormat, register_source

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
#: Boxes of an MP4 that are looked at, lest a file of empty ones take hours; a recording has two for each fragment.
_MOST_BOXES = 1_000_000


class VideoFile:
    """The frames of a video's first picture stream, in the order they are shown.

    Names are frame numbers, times are counted from the first frame; nothing of the container's tags is read. Frames
    that cannot be decoded, and a file that ends early, are `Failure`s.

    Args:
        path: an existing file.

    Raises:
        UserError: if PyAV is missing, or the file is damaged at its head or holds no frame.
    """

    kind = "video"

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_container(str(path), f"The video {str(path)!r}") as container:
            stream = container.streams.video[0]
            self.fps: float | None = float(stream.average_rate) if stream.average_rate else None
            # Some containers do not tell (Matroska), or tell roughly: for the progress bar.
            self.total: int | None = stream.frames or _estimate(container, self.fps)
            self._in_boxes = "mov" in container.format.name
            # Of an AVI that was cut, FFmpeg shortens the duration, but not the number of places, which are pictures'.
            places = stream.frames / self.fps if self.fps and not self._in_boxes else 0.0
            self._seconds = places or (container.duration or 0) / 1e6
            self._counted = ("video",) if places else ("video", "audio")
            if next(decoded(container), None) is None:
                raise UserError(f"The video {str(path)!r} holds no frame that can be decoded; record or copy it again.")
        state = path.stat()
        self.fingerprint = f"{state.st_size}:{self.total}"

    def items(self, start: int = 0) -> Iterator[Item | Failure]:
        """Yield the frames from index `start` on; the ones before are decoded too, since seeking is inexact."""
        index, first, reached = 0, None, 0.0

        def note(packet: Packet) -> None:
            nonlocal reached
            if packet.stream.type in self._counted and packet.pts is not None and packet.time_base is not None:
                reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))

        with open_container(str(self._path), "The video") as container:
            for frame in decoded(container, note):
                name = frame_name(index)
                if isinstance(frame, str):
                    yield from [Failure(name, index, frame)] * (index >= start)
                else:
                    if first is None:
                        first = frame.time
                    if index >= start:
                        yield Item(name, index, rgb(frame), since(frame.time, first))
                index += 1
        if index >= start and self._ends_early(reached):
            yield Failure(frame_name(index), index, "the video ends early: its last part is missing; copy it again")

    def _ends_early(self, reached: float) -> bool:
        """Whether less came than the container's head promises.

        The boxes of an MP4 say how long they are. Its number of frames would not do: those that an edit list hides are
        among them. Elsewhere the time decides, by the container's own clock: pictures may begin after its zero, and
        end before the sound, to which a promised duration then belongs.

        Args:
            reached: seconds at which the last packet ends.
        """
        if self._in_boxes:
            return _lacks_bytes(self._path)
        return self._seconds - reached > max(0.5, 0.01 * self._seconds)


def frame_name(index: int) -> str:
    """Return the name of a frame that has a number only."""
    return f"{index:06d}"


def since(time: float | None, first: float | None) -> float | None:
    """Return the seconds from `first` to `time`, if both are known."""
    return None if time is None or first is None else round(time - first, 6)


def rgb(frame: VideoFrame) -> Any:
    """Return a decoded frame as `(H, W, 3)` uint8, turned upright if the recorder noted a rotation."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return (
        pixels if turns == 0 else pixels.swapaxes(0, 1)[:: -1 if turns == 1 else 1, :: -1 if turns == 3 else 1].copy()
    )


def open_container(
    where: str | BinaryIO, what: str, remedy: str = "copy or record it again", **options: Any
) -> InputContainer:
    """Open a container that holds a picture stream.

    Raises:
        UserError: naming `what` and `remedy`, if PyAV is missing or there is no such stream.
    """
    av = import_av()
    try:
        container = av.open(where, metadata_errors="replace", **options)
    except (av.error.FFmpegError, OSError) as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{what} cannot be opened ({reason}); {remedy}.") from error
    if not container.streams.video:
        container.close()
        raise UserError(f"{what} holds no pictures; name a file with a video stream.")
    container.streams.video[0].thread_type = "AUTO"
    return container


def import_av() -> Any:
    """Return PyAV.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("Videos need PyAV; install it with pip install 'lap_monai[video]'.") from error
    return av


def decoded(container: InputContainer, note: Callable[[Packet], None] | None = None) -> Iterator[VideoFrame | str]:
    """Yield frames, and for each packet that cannot be decoded, why.

    Args:
        container: an open one.
        note: told of every packet, of the other streams too.
    """
    import av

    stream = container.streams.video[0]
    packets: Iterator[Any] = container.demux() if note is not None else container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:  # the container ends within a packet
            return
        if note is not None:
            note(packet)
        if packet.stream.index != stream.index:
            continue
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            yield f"cannot be decoded ({error.strerror}); copy the video again"


def _lacks_bytes(path: Path) -> bool:
    """Whether an MP4 or QuickTime file ends within a box of media, by the lengths that its outermost boxes give."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        for _ in range(_MOST_BOXES):
            file.seek(place)
            head = file.read(16)
            if len(head) < 8:
                return False
            length, kind = struct.unpack(">I4s", head[:8])
            if length == 1:  # the length stands behind the kind, as a longer number
                length = int.from_bytes(head[8:], "big")
            if length < 8:  # 0 is "to the end of the file", which nobody can check; others are no boxes
                return False
            place += length
            if place > size:
                return kind in (b"mdat", b"moof")
    return False


def _estimate(container: InputContainer, fps: float | None) -> int | None:
    stream = container.streams.video[0]
    if fps is None:
        return None
    if stream.duration and stream.time_base:
        return round(float(stream.duration * stream.time_base) * fps)
    return round(container.duration / 1e6 * fps) if container.duration else None


def _accepts(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


register_source(SourceFormat(VideoFile.kind, _accepts, VideoFile))
