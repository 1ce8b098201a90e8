"""What a synthetic image costs: network evaluations and images per second of each sampler, at what quality.

Every sampler draws the same number of images from the same weights. Quality is the kernel inception distance to frames
of patients that the generator never saw, on the features of a given segmentation network; its noise is the spread of
KID over pairs of random halves of the real frames. Goal: the few-step sampler reaches DDPM's KID, within that noise,
with at least 40 times fewer evaluations.

    python -m lap_monai phantom runs/phantom --videos 24 --frames 60 --size 214x120
    python -m lap_monai run bundles/dresden_replay_diffusion/configs/{train,phantom,demo}.json \\
        --data runs/phantom --out runs/generator
    python benchmarks/sampling.py --run runs/generator --data runs/phantom --teacher runs/demo/models/model.pt \\
        --out docs/evidence/sampling.json
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import machine
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet
from numpy.typing import NDArray

from lap_monai.files import write_json
from lap_monai.networks import load_teacher
from lap_monai.replay import CachedFrames, FrameGenerator, encoder_features, image_seed, kid

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "dresden_replay_diffusion" / "configs"
CONTENDERS = [
    ("ddpm", None),
    ("ddpm", 25),
    ("ddim", 100),
    ("ddim", 50),
    ("ddim", 25),
    ("dpm_solver", 25),
    ("dpm_solver", 20),
    ("dpm_solver", 15),
    ("dpm_solver", 10),
    ("sde_dpm_solver", 25),
    ("sde_dpm_solver", 20),
    ("sde_dpm_solver", 15),
    ("sde_dpm_solver", 10),
]


def configured(args: argparse.Namespace) -> ConfigParser:
    """The training's config, with its overlays, on this machine's places."""
    parser = ConfigParser()
    parser.read_config([CONFIGS / "train.json", *[CONFIGS / f"{name}.json" for name in args.overlays]])
    parser["dataset_dir"] = str(args.data)
    parser["ckpt_dir"] = str(args.run / "models")
    return parser


def halves(features: NDArray[np.float32], draws: int, seed: int = 0) -> list[float]:
    """KID between random halves of one set of features: what it is where both come from one distribution."""
    rng, values = np.random.default_rng(seed), []
    for _ in range(draws):
        order = rng.permutation(len(features))
        middle = len(order) // 2
        values.append(kid(features[order[:middle]], features[order[middle:]]).mean)
    return values


def measure(parser: ConfigParser, args: argparse.Namespace) -> dict[str, Any]:
    get = parser.get_parsed_content
    network = load_teacher(get("network_def"), args.run / "models" / "model.pt", get("identity"), get("device"))
    teacher = BasicUNet(spatial_dims=2, in_channels=3, out_channels=args.classes, features=args.features)
    teacher = load_teacher(teacher, args.teacher, device=get("device"))
    parts, size = get("parts"), get("frame_size")

    def features(frames: Any) -> NDArray[np.float32]:
        return encoder_features(teacher, frames, size=args.teacher_size)

    real = features(CachedFrames([*parts["val"], *parts["test"]], size))
    rows = []
    for sampler, steps in CONTENDERS:
        steps = steps or get("timesteps")
        generator = FrameGenerator(network, get("scheduler"), size, sampler, steps, "static", args.batch, get("device"))
        seeds = [image_seed(0, i) for i in range(args.images)]
        generator.draw(seeds[:1])
        start = time.perf_counter()
        images = generator.draw(seeds)
        if generator.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        quality = kid(real, features(images))
        rows.append(
            {
                "sampler": sampler,
                "evaluations": steps,
                "images_per_second": args.images / seconds,
                "kid": quality._asdict(),
            }
        )
        print(f"{sampler:12s} {steps:5d} evaluations {args.images / seconds:9.2f} images/s   KID {quality.mean:.5f}")
    noise = halves(real, draws=20)
    return {"rows": rows, "kid_of_real_halves": {"mean": float(np.mean(noise)), "std": float(np.std(noise))}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder of the generator's training")
    parser.add_argument("--data", type=Path, required=True, help="the data set it learned from")
    parser.add_argument("--overlays", nargs="*", default=["phantom", "demo"], help="of its training")
    parser.add_argument("--teacher", type=Path, required=True, help="model.pt of a segmentation network, for features")
    parser.add_argument("--features", type=int, nargs="+", default=[16, 32, 64, 128, 256, 16], help="its channels")
    parser.add_argument("--classes", type=int, default=8, help="its classes")
    parser.add_argument(
        "--teacher-size", type=int, nargs=2, default=[72, 128], help="height and width it was trained at"
    )
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/sampling.json"))
    args = parser.parse_args()
    torch.manual_seed(0)
    settings = {key: value.name if isinstance(value, Path) else value for key, value in vars(args).items()}
    found = measure(configured(args), args)
    write_json(
        args.out,
        found
        | {
            "goal": "a few-step sampler at DDPM's KID with <= 1/40 of its evaluations",
            "settings": settings,
            "machine": machine(),
        },
    )
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
