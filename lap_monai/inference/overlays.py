"""`--write overlay`: painted frames, as a video where the source is one, as PNG otherwise."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lap_monai.checks import UserError
from lap_monai.files import replacing
from lap_monai.inference.painter import Painter
from lap_monai.inference.source import Item, Pixels
from lap_monai.inference.video import import_av
from lap_monai.inference.writer import FileWriter, Output, Prediction, Writer, register_writer

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

#: Ticks a second in which times are kept; those of MPEG, so that usual frame rates are exact.
_TICKS = 90_000
#: What a segment is called: index of its first frame and that frame's time. Hidden, it is not finished. A pattern of
#: `glob` would take both, as `*` also stands for the dot that hides.
_SEGMENT = re.compile(r"(?P<hidden>\.?)(?P<index>\d{9,})_(?P<tick>\d+)\.mp4")
#: Constant quality of the encoder: hard to tell from the frames, a tenth of lossless.
_QUALITY = "20"


class OverlayPictures(FileWriter):
    """Write `overlay/NAME.png`: the frame with its classes painted on."""

    def __init__(self, output: Output) -> None:
        self._folder = output.folder / "overlay"
        self._painter = Painter(output.label_space, output.side_by_side, output.legend)

    def write(self, item: Item, prediction: Prediction) -> None:
        """Write the file of one frame."""
        with replacing(self._folder / f"{item.name}.png") as path:
            Image.fromarray(self._painter(item.image, prediction.labels)).save(path, compress_level=1)


class OverlayVideo:
    """Write `overlay.mp4`: H.264, the source's frame times, sides made even by repeating the last row or column.

    Between two checkpoints the frames go to one segment, a whole video of its own in `overlay_segments`. At the end
    the segments are joined without encoding again, and removed. A run that is broken off keeps its segments: each
    plays, and a resumed run goes on behind the last. The one that was being written is removed, by a resumed run if
    the first was killed.
    """

    resumable = True

    def __init__(self, output: Output) -> None:
        self._av = import_av()
        self._folder, self._path = output.folder / "overlay_segments", output.folder / "overlay.mp4"
        self._joined = output.folder / ".overlay_segments"
        self._painter = Painter(output.label_space, output.side_by_side, output.legend)
        self._fps = Fraction(output.source.fps or 25).limit_denominator(1001)
        self._size: tuple[int, int] | None = None
        self._segment: _Segment | None = None
        self._tick = -1
        for path, name in _segments(self._folder):
            if name["hidden"] or int(name["index"]) >= output.start:  # not in the checkpoint that this run starts from
                path.unlink()
        shutil.rmtree(self._joined, ignore_errors=True)

    def write(self, item: Item, prediction: Prediction) -> None:
        """Encode one frame; one of another size than the first is resized to it."""
        picture = _even(self._painter(item.image, prediction.labels))
        tick = round((item.index / self._fps if item.time is None else item.time) * _TICKS)
        tick = self._tick = max(tick, self._tick + 1)  # times that stand still would be refused
        size = self._size = self._size or (picture.shape[1], picture.shape[0])
        if self._segment is None:
            path = self._folder / f"{item.index:09d}_{tick}.mp4"
            self._segment = _Segment(self._av, path, size, self._fps, tick)
        if size != (picture.shape[1], picture.shape[0]):
            picture = np.asarray(Image.fromarray(picture).resize(size))
        self._segment.encode(picture, tick)

    def checkpoint(self, done: int) -> None:
        """Finish the segment."""
        if self._segment is not None:
            self._segment.finish()
            self._segment = None

    def close(self) -> None:
        """Join the segments to one file; none are left if an earlier part of the run has done so."""
        self.checkpoint(0)
        segments = [(path, int(name["tick"])) for path, name in _segments(self._folder)]
        if not segments:
            return
        with replacing(self._path) as path:
            _join(self._av, segments, path)
        # Away all at once: if some were left after a kill, a resumed run would join these, and call it the whole.
        self._folder.replace(self._joined)
        shutil.rmtree(self._joined)

    def abort(self) -> None:
        """Remove the segment that is not finished."""
        if self._segment is not None:
            self._segment.drop()
            self._segment = None


def _open(output: Output) -> Writer:
    return OverlayPictures(output) if output.source.fps is None else OverlayVideo(output)


register_writer("overlay", _open)


class _Segment:
    """One video file in the making, under a hidden name until it is whole."""

    def __init__(self, av: Any, path: Path, size: tuple[int, int], fps: Fraction, start: int) -> None:
        self._av, self._path, self._start = av, path, start
        self._temporary = path.with_name(f".{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container: OutputContainer = av.open(str(self._temporary), "w", format="mp4")
        except OSError as error:
            raise _cannot_write(path.parent, error) from error
        # Without B-frames packets leave in the order of their times, so that segments join at any place.
        name = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        options = {"preset": "veryfast", "crf": _QUALITY} if name == "libx264" else {"qscale": "3"}
        self._stream: VideoStream = self._container.add_stream(name, rate=fps, options=options | {"bf": "0"})
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)

    def encode(self, picture: Pixels, tick: int) -> None:
        frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = tick - self._start, Fraction(1, _TICKS)
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise _cannot_write(self._path.parent, error) from error

    def finish(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._temporary.replace(self._path)
        except OSError as error:
            self.drop()
            raise _cannot_write(self._path.parent, error) from error

    def drop(self) -> None:
        with suppress(OSError):  # a full disk again; the file goes anyway
            self._container.close()
        self._temporary.unlink(missing_ok=True)


def _join(av: Any, segments: list[tuple[Path, int]], path: Path) -> None:
    """Copy the packets of all segments, given with the ticks that they start at, into one file."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as joined:
        stream = None
        for segment, shift in segments:
            with av.open(str(segment)) as part:
                source = part.streams.video[0]
                stream = stream or joined.add_stream_from_template(source)
                offset = round(Fraction(shift, _TICKS) / source.time_base)
                for packet in part.demux(source):
                    if packet.dts is None:  # the end of the stream
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    joined.mux(packet)


def _segments(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """Return the segments in a folder, finished or not, in the order of their frames, with the parts of their names."""
    found = [(path, _SEGMENT.fullmatch(path.name)) for path in folder.glob("*.mp4")]
    named = [(path, name) for path, name in found if name is not None]
    return sorted(named, key=lambda segment: int(segment[1]["index"]))


def _even(picture: Pixels) -> Pixels:
    height, width, _ = picture.shape
    return (
        np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else picture
    )


def _cannot_write(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"Cannot write to {str(folder)!r}: {error.strerror or error}; free space there and go on with --resume, or "
        "name another folder. The segments that are there play."
    )
