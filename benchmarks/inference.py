"""Frames on disk to label maps on disk: this package beside the bundle's stock inference and other people's loops.

Frames of 854x480 (phantoms, or `--frames DIR`), PNG in, one class-index PNG each out, on the CPU with `--threads`
threads. All contenders run in turn in one process, with their networks loaded before the clock starts, which favours
whoever loads slowly. The network is the bundle's 32-to-512 U-Net; without `--run` (a trained run folder) its weights
are random, which changes no time.

Beside the time by the clock stands the processors' time, which other work on the machine stretches far less. A
contender that keeps both cores busy takes half of it by the clock.

- `stock`: the bundle's `inference.json` as `python -m monai.bundle run` does it, window 256, overlap 0.25;
- `MODE_ENGINE`: `lap_monai.inference.predict` for each engine, in the modes `window` and `frame`, with all that a run
  does once (threads, run.json, frames.csv), so more frames show it better;
- `student_ENGINE`: the same with the network of `student.json` (`--student`: a run folder), in mode `frame`;
- `nnunet_like`, `nnunet_like_mirrored`: a peer, written plainly here after nnU-Net's inference: windows with half
  overlap weighed by a Gaussian, probabilities summed at the network's size, without and with mirroring;
- `loop_like`: a peer, the per-image loop that segmentation_models.pytorch's examples show: read, resize, one eager pass
  of a whole frame, argmax, resize, write. Both with `--peers`.

`labels_as_stock` is the share of pixels of the written label maps that equal those of `stock`. Goals: `stock` over
`frame_openvino` at least 4, over `frame_openvino-int8` 10, over `student_openvino-int8` 20 and 15 frames a second.

    python benchmarks/inference.py --engines openvino openvino-int8 --out docs/evidence/inference.json
    python benchmarks/inference.py --engines torch onnxruntime --out docs/evidence/inference_engines.json
    python benchmarks/inference.py --engines openvino --peers --count 8 --out docs/evidence/inference_peers.json

`--stream HOURS` measures memory instead: the last of `--engines` with the student on a video of phantoms (or
`--frames`), repeated as one stream until the time is up, every frame decoded, segmented and written as overlay video
and label map. Goal: the resident memory of the last three quarters stays within 5 % of its median; `own` leaves out the
pages of libraries and files, which the system takes and gives as it likes. How many frames that were depends on what
else the machine did: no measure of speed.

    python benchmarks/inference.py --stream 1 --out docs/evidence/inference_memory.json
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from _common import interleaved, machine, write_report
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data.utils import compute_importance_map
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from lap_monai.checkpoints import write_checkpoint
from lap_monai.data.phantom import render_frame
from lap_monai.experiments import merge_configs
from lap_monai.files import read_json, write_json
from lap_monai.inference import Bundle, Failure, Item, Options, Predictor, Source, exported_model, open_source, predict
from lap_monai.keys import IMAGE
from lap_monai.packaging import ExportFrames, export_bundle

BUNDLE = Path(__file__).parents[1] / "bundles" / "cholecseg8k_contrastive"
NATIVE = (854, 480)
GOALS = {"frame_openvino": 4, "frame_openvino-int8": 10, "student_openvino-int8": 20}

Pass = Callable[[], object]


def write_frames(folder: Path, count: int) -> Path:
    """Write phantom frames as PNG files."""
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(render_frame(video=index % 4, frame=index // 4, size=NATIVE)[0]).save(
            folder / f"frame_{index:04d}.png"
        )
    return folder


def bundle_copy(folder: Path, overlay: str | None) -> Path:
    """Copy the bundle with random weights, its inference that of an overlay."""
    shutil.copytree(BUNDLE, folder, ignore=shutil.ignore_patterns("models", "eval", "logging.conf"))
    config = folder / "configs" / "inference.json"
    if overlay:
        write_json(config, merge_configs([config, folder / "configs" / overlay]))
    torch.manual_seed(0)
    network = ConfigParser(ConfigParser.load_config_file(str(config))).get_parsed_content("network_def")
    write_checkpoint(folder / "models" / "model.pt", {"model": network})
    return folder


def opened(given: Path | None, folder: Path, overlay: str | None) -> Bundle:
    """Open a trained run, in a copy that may be written to and at the bundle's own sizes, or random weights."""
    if given is None:
        return Bundle.open(bundle_copy(folder, overlay))
    sizes = read_json(BUNDLE / "configs" / "inference.json")
    shutil.copytree(given, folder)
    for path in folder.glob("config_*.json"):
        write_json(path, read_json(path) | {key: sizes[key] for key in ("frame_size", "window", "overlap")})
    return Bundle.open(folder)


def quantise(bundle: Bundle, frames: list[Path]) -> None:
    """Give a bundle an int8 form for its speed, calibrated on the very frames, unless it brings one of its own."""
    if exported_model(bundle, "openvino-int8") is None:
        samples = [{IMAGE: bundle.preprocessing(np.array(Image.open(path).convert("RGB")))} for path in frames[:8]]
        export_bundle(bundle, "openvino-int8", ExportFrames(samples, samples[:2], "benchmark"), allow_loss=True)


# --- contenders ------------------------------------------------------------------------------------------------------


def stock(bundle: Bundle, frames: Path, out: Path) -> Pass:
    """The bundle's own inference, built once; a pass is what its `run` does."""
    config = bundle.inference_config
    config |= {"bundle_root": str(bundle.root), "dataset_dir": str(frames), "output_dir": str(out)}
    config |= {"ckpt_dir": str(bundle.weights.parent), "device": "$torch.device('cpu')"}
    file = write_json(bundle.weights.parent / "stock_inference.json", config)
    workflow = ConfigWorkflow(str(file), meta_file=False, logging_file=False, workflow_type="infer")
    workflow.initialize()
    return workflow.run


def ours(predictor: Predictor, frames: Path, out: Path) -> Pass:
    """A whole prediction run, label maps and the usual tables."""

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        predict(open_source(frames), predictor, out, Options(write=["labels"], compare=False))

    return run


def nnunet_like(bundle: Bundle, frames: Path, out: Path, mirror: bool) -> Pass:
    """Windows with half overlap under a Gaussian, each optionally in four mirrorings; one frame after the other."""
    network = bundle.build_network()
    window = 256
    weight = compute_importance_map((window, window), mode="gaussian", sigma_scale=1 / 8)
    flips: list[tuple[int, ...]] = [(), (2,), (3,), (2, 3)] if mirror else [()]

    def segment(image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        below, right = max(window - height, 0), max(window - width, 0)
        padded = torch.nn.functional.pad(image[None], (0, right, 0, below))
        total: torch.Tensor | float = 0.0
        for flip in flips:
            turned = padded.flip(flip) if flip else padded
            scores = torch.zeros(1, bundle.label_space.num_classes, *turned.shape[2:])
            for top, left in itertools.product(*(steps(side, window) for side in turned.shape[2:])):
                view = (..., slice(top, top + window), slice(left, left + window))
                scores[view] += network(turned[view]) * weight
            total = total + (scores.flip(flip) if flip else scores)
        assert isinstance(total, torch.Tensor)
        return total[0, :, :height, :width].argmax(0)

    return plain_loop(bundle, frames, out, segment)


def steps(side: int, window: int) -> list[int]:
    """Starts of windows that overlap by half or more and end at the end."""
    count = -(-(side - window) * 2 // window) + 1
    return [round(start) for start in np.linspace(0, side - window, count)]


def loop_like(bundle: Bundle, frames: Path, out: Path) -> Pass:
    """One eager pass of each whole frame, padded to the network's stride."""
    network, stride = bundle.build_network(), bundle.stride

    def segment(image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        padded = torch.nn.functional.pad(image[None], (0, -width % stride, 0, -height % stride))
        return network(padded)[0, :, :height, :width].argmax(0)

    return plain_loop(bundle, frames, out, segment)


def plain_loop(bundle: Bundle, frames: Path, out: Path, segment: Callable[[torch.Tensor], torch.Tensor]) -> Pass:
    """Read, resize, segment, resize, write, frame by frame."""
    height, width = bundle.preprocessing.size or NATIVE[::-1]
    out.mkdir()

    @torch.inference_mode()
    def run() -> None:
        for path in sorted(frames.iterdir()):
            with Image.open(path) as picture:
                small = picture.convert("RGB").resize((width, height), Image.Resampling.BOX)
                size = picture.size
            image = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
            labels = Image.fromarray(segment(image).to(torch.uint8).numpy())
            labels.resize(size, Image.Resampling.NEAREST).save(out / path.name)

    return run


def arithmetic(teacher: Bundle, student: Bundle) -> dict[str, float]:
    """Floating-point operations of a frame, and how many a core does in a second of matrix products."""
    counts = {}
    for name, bundle in (("frame", teacher), ("student", student), ("stock", teacher)):
        predictor = Predictor(bundle, "window" if name == "stock" else "frame", "torch", "cpu")
        with FlopCounterMode(display=False) as counter:
            predictor.infer([torch.zeros(3, *(bundle.preprocessing.size or NATIVE[::-1]))])
        counts[name] = counter.get_total_flops() / 1e9
    matrix = torch.rand(1536, 1536)
    taken: list[float] = []
    for _ in range(5):
        with_processor_time(lambda: matrix @ matrix, taken)()
    return {
        **{f"{name}_gflop": round(count, 2) for name, count in counts.items()},
        "core_gflop_per_second": round(2 * 1536**3 / min(taken) / 1e9, 1),
    }


def with_processor_time(run: Pass, taken: list[float]) -> Pass:
    """Wrap a pass so that it notes the seconds it takes of all processors."""

    def timed() -> None:
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)

    return timed


# --- measurements ----------------------------------------------------------------------------------------------------


def agreement(folder: Path, reference: Path) -> float:
    """Share of pixels that two folders of label maps have in common, in the order of their names."""
    found, expected = (sorted(path.rglob("*.png")) for path in (folder, reference))
    return float(
        np.mean(
            [np.mean(np.array(Image.open(a)) == np.array(Image.open(b))) for a, b in zip(found, expected, strict=True)]
        )
    )


def compare(args: argparse.Namespace, root: Path) -> None:
    """Time all contenders and write the report."""
    frames = args.frames or write_frames(root / "frames", args.count)
    files = sorted(frames.iterdir())
    teacher, student = (
        opened(args.run, root / "teacher", None),
        opened(args.student, root / "student", "inference_student.json"),
    )
    for bundle in (teacher, student):
        if "openvino-int8" in args.engines:
            quantise(bundle, files)
    passes: dict[str, Pass] = {"stock": stock(teacher, frames, root / "out_stock")}
    for engine in args.engines:
        passes |= {
            f"{mode}_{engine}": ours(Predictor(teacher, mode, engine, "cpu"), frames, root / f"out_{mode}_{engine}")
            for mode in ("window", "frame")
        }
        passes[f"student_{engine}"] = ours(
            Predictor(student, "frame", engine, "cpu"), frames, root / f"out_student_{engine}"
        )
    if args.peers:
        passes["nnunet_like"] = nnunet_like(teacher, frames, root / "out_nnunet_like", mirror=False)
        passes["nnunet_like_mirrored"] = nnunet_like(teacher, frames, root / "out_nnunet_like_mirrored", mirror=True)
        passes["loop_like"] = loop_like(teacher, frames, root / "out_loop_like")
    processor: dict[str, list[float]] = {name: [] for name in passes}
    seconds = interleaved(
        {name: with_processor_time(run, processor[name]) for name, run in passes.items()}, args.rounds
    )
    per_frame = {name: [value / len(files) for value in values] for name, values in seconds.items()}
    spent = {name: statistics.median(values[1:]) / len(files) for name, values in processor.items()}
    settings = {
        "frames": len(files),
        "size": NATIVE if args.frames is None else None,
        "arithmetic": arithmetic(teacher, student),
        "weights": "random" if args.run is None else teacher.weights_sha256,
        "student_weights": "random" if args.student is None else student.weights_sha256,
        "processor_seconds": {name: round(value, 6) for name, value in spent.items()},
        "stock_over_it_in_processor_time": {name: round(spent["stock"] / value, 3) for name, value in spent.items()},
        "fps": {name: round(1 / statistics.median(values), 2) for name, values in per_frame.items()},
        "labels_as_stock": {name: round(agreement(root / f"out_{name}", root / "out_stock"), 5) for name in passes},
    }
    references = [name for name in passes if name == "stock" or "_like" in name]
    ratios: dict[str, dict[str, Any]] = {f"{a}/{b}": {} for a in references for b in passes if b not in references}
    for name, goal in GOALS.items():
        if f"stock/{name}" in ratios:
            ratios[f"stock/{name}"] = {"goal": f"at least {goal}"}
    write_report(args.out, per_frame, ratios, settings)


class Repeated:
    """A source over and over until the time is up, as one video."""

    kind, total, fingerprint = "video", None, "stream"

    def __init__(self, source: Source, seconds: float, ended: threading.Event) -> None:
        self._source, self._seconds, self._ended, self.fps = source, seconds, ended, source.fps or 25.0

    def items(self, start: int = 0) -> Iterator[Item | Failure]:
        """Yield until the time is up, and say so; names repeat, so that the disk does not fill with label maps."""
        end = time.monotonic() + self._seconds
        index = start
        while True:
            for item in self._source.items():
                if time.monotonic() >= end:
                    self._ended.set()
                    return
                yield replace(item, index=index, time=None) if isinstance(item, Item) else replace(item, index=index)
                index += 1


def write_video(folder: Path, path: Path) -> Path:
    """Write the frames of a folder as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = NATIVE
        stream.pix_fmt = "yuv420p"
        for file in sorted(folder.iterdir()):
            frame = av.VideoFrame.from_ndarray(np.array(Image.open(file)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def watch_memory(args: argparse.Namespace, root: Path) -> None:
    """Sample the resident memory during a long stream and write the report."""
    pictures = write_frames(root / "frames", args.count)
    frames = args.frames or write_video(pictures, root / "clip.mp4")
    bundle = opened(args.student, root / "student", "inference_student.json")
    engine = args.engines[-1]
    if engine == "openvino-int8":
        quantise(bundle, sorted(pictures.iterdir()))
    predictor = Predictor(bundle, "frame", engine, "cpu")
    megabytes: dict[str, list[float]] = {"resident": [], "own": []}
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(max(args.stream * 3600 / 1000, 0.05)):
            pages = [int(word) for word in Path("/proc/self/statm").read_text(encoding="ascii").split()]
            megabytes["resident"].append(pages[1] * os.sysconf("SC_PAGE_SIZE") / 1e6)
            megabytes["own"].append((pages[1] - pages[2]) * os.sysconf("SC_PAGE_SIZE") / 1e6)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        record = predict(
            Repeated(open_source(frames), args.stream * 3600, ended),
            predictor,
            root / "out",
            Options(["labels", "overlay"], compare=False),
        )
    finally:
        ended.set()
        sampler.join()
    report: dict[str, Any] = {
        "hours": args.stream,
        "frames": record["frames"],
        "engine": engine,
        "seconds": record["seconds"],
        "goal": "largest_deviation of at most 0.05 after the first quarter",
        "megabytes": {name: steadiness(values) for name, values in megabytes.items()},
        "samples": megabytes,
        "machine": machine(),
    }
    write_json(args.out, report)
    for name, values in report["megabytes"].items():
        print(f"{name:9s} {values['median']:.0f} MB, off by at most {values['largest_deviation']:.1%}")
    print(f"{record['frames']}: {args.out}")


def steadiness(samples: list[float]) -> dict[str, float]:
    """Return median and extremes of the last three quarters, and how far these are from it."""
    settled = samples[len(samples) // 4 :]
    middle, least, most = statistics.median(settled), min(settled), max(settled)
    return {
        "median": middle,
        "least": least,
        "most": most,
        "largest_deviation": max(most / middle - 1, 1 - least / middle),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="run folder of a trained network (default: random weights)")
    parser.add_argument("--student", type=Path, help="run folder of its student (default: random weights)")
    parser.add_argument("--frames", type=Path, help="folder of PNG frames; a video for --stream (default: phantoms)")
    parser.add_argument("--count", type=int, default=16, help="phantom frames (default: 16)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--engines", nargs="+", default=["torch", "onnxruntime", "openvino", "openvino-int8"], metavar="NAME"
    )
    parser.add_argument("--peers", action="store_true", help="measure the loops of other projects too")
    parser.add_argument("--stream", type=float, metavar="HOURS", help="measure memory over so long a stream instead")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        (watch_memory if args.stream else compare)(args, Path(folder))


if __name__ == "__main__":
    main()
