"""The pictures of docs/predict.md: what `predict` makes of a phantom video whose patient the network never saw.

`--run` is a training on phantoms, such as `make demo` leaves. The first clip of the first phantom patient beyond those
of the demo is written as H.264 and goes through `predict`: plain frame and overlay side by side, smoothed. The overlay
video becomes `prediction.webp`, animated, and one frame of it `prediction.png`.

    python benchmarks/prediction_animation.py --run runs/demo --out docs/images
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import av
from PIL import Image

from lap_monai.data.phantom import render_frame
from lap_monai.inference import Options, Predictor, open_source, predict

PATIENT, CLIP, FRAMES, SIZE = 20, 0, 24, (426, 240)
FPS = 12


def write_clip(path: Path) -> None:
    """Write a clip of the phantom patient as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "12"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(FRAMES):
            pixels = render_frame(PATIENT, CLIP, index, SIZE, frames=FRAMES)[0]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder of a training on phantoms")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip, out = Path(folder, "clip.mp4"), Path(folder, "out")
        write_clip(clip)
        options = Options(write=["overlay"], smooth=0.6, side_by_side=True, compare=False)
        record = predict(open_source(clip), Predictor(args.run, "window"), out, options)
        with av.open(str(out / "overlay.mp4")) as container:
            frames = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    first, *others = frames
    first.save(
        args.out / "prediction.webp",
        save_all=True,
        append_images=others,
        duration=1000 // FPS,
        loop=0,
        quality=45,
        method=6,
    )
    frames[FRAMES // 2].save(args.out / "prediction.png", optimize=True)
    for name in ("prediction.webp", "prediction.png"):
        print(f"{args.out / name}: {(args.out / name).stat().st_size // 1000} kB")
    print(f"{record['frames']}, flicker {record['flicker']}")


if __name__ == "__main__":
    main()
