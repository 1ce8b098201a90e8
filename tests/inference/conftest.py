"""A tiny trained bundle, and videos of moving shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lap_monai.inference import Bundle, Predictor

WriteVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_bundle(tiny_run: Path) -> Bundle:
    """What the run folder of a tiny training opens as."""
    return Bundle.open(tiny_run)


@pytest.fixture
def predictor(tiny_bundle: Bundle) -> Predictor:
    """The tiny bundle, whole frames at once."""
    return Predictor(tiny_bundle, "frame", device="cpu")


def moving_square(index: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A picture `(H, W, 3)` of a bright square that moves with `index` over a slope of grey."""
    height, width = size
    picture = np.repeat(np.linspace(40, 160, width, dtype=np.uint8)[None], height, 0)[..., None].repeat(3, 2)
    picture[10:22, 4 + index % 40 : 16 + index % 40] = (230, 60, 60)
    return picture


@pytest.fixture
def write_video(tmp_path: Path) -> WriteVideo:
    """A function that writes frames, each at its own time in seconds, as a video, with so many seconds of silence."""
    av = pytest.importorskip("av")

    def write(
        name: str = "video.mp4",
        times: Sequence[float] = tuple(i / 25 for i in range(12)),
        codec: str = "mpeg4",
        sound: float = 0,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
            container.metadata["title"] = "Jane Doe"
            stream = container.add_stream(codec, rate=25)
            stream.bit_rate = 4_000_000
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            tick = (
                Fraction(1, 25) if path.suffix == ".avi" else Fraction(1, 1000)
            )  # AVI would fill up with empty frames
            stream.codec_context.time_base = tick
            silence = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
            container.start_encoding()
            packets = list(_silence(av, silence, sound)) if silence else []
            for index, time in enumerate(times):
                while packets and packets[0].pts * packets[0].time_base <= time:
                    container.mux(packets.pop(0))
                frame = av.VideoFrame.from_ndarray(moving_square(index), format="rgb24")
                frame.pts, frame.time_base = round(time / tick), tick
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            container.mux(packets)
        return path

    return write


def _silence(av: Any, stream: Any, seconds: float) -> Iterator[Any]:
    """Yield packets of a tenth of a second."""
    for start in range(0, round(seconds * 8000), 800):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
        yield from stream.encode(frame)
