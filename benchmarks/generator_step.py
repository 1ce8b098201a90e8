"""What fused attention, channels-last and torch.compile are worth to the replay generator.

A training step (forward, backward, AdamW) and one evaluation of a sampler, of the bundle's network for each list
of overlays, taken in turn in one process. `eager` is what the bundle declares, with fused attention; every other
contender differs from it in what its name says. Ratios are `eager/…`: above 1, the other is faster. What compiling
takes at first is told beside.

    python benchmarks/generator_step.py --out docs/evidence/generator_step.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _common import interleaved, write_report
from monai.bundle import ConfigParser
from torch import Tensor, nn

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "dresden_replay_diffusion" / "configs"
OVERLAYS = {"pixels": ["demo"], "patches": ["demo", "patched"]}
CONTENDERS = ("eager", "plain_attention", "channels_last", "compiled")


def build(overlays: list[str], contender: str) -> tuple[nn.Module, tuple[int, int]]:
    """Return the network that the configs declare, changed as the contender's name says, and its frame size."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in ("train", *overlays)])
    if contender == "plain_attention":
        parser["network_def#use_flash_attention"] = False
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    if contender == "channels_last":
        network = network.to(memory_format=torch.channels_last)
    if contender == "compiled":
        network.compile()
    height, width = parser.get_parsed_content("frame_size")
    return network, (height, width)


def training_step(network: nn.Module, frames: Tensor) -> Callable[[], Tensor]:
    """Return a function that takes one step on a batch and returns the loss; the target is noise, as in training."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0)
    noise, timesteps = torch.randn_like(frames), torch.randint(0, 1000, (len(frames),))

    def step() -> Tensor:
        network.train()
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(network(x=frames, timesteps=timesteps), noise)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def evaluation(network: nn.Module, frames: Tensor) -> Callable[[], Tensor]:
    """Return a function that asks the network about a batch once, as every step of a sampler does."""
    timesteps = torch.full((len(frames),), 500)

    def ask() -> Tensor:
        network.eval()
        with torch.inference_mode():
            return network(x=frames, timesteps=timesteps)

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/generator_step.json"))
    args = parser.parse_args()
    if "eager" not in args.contenders:
        parser.error("--contenders: eager is what the others are compared with.")
    runs: dict[str, Callable[[], Tensor]] = {}
    compiling: dict[str, float] = {}
    for kind, overlays in OVERLAYS.items():
        for contender in args.contenders:
            for what, make in (("step", training_step), ("evaluation", evaluation)):
                network, size = build(overlays, contender)
                frames = torch.rand(args.batch, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
                if contender == "channels_last":
                    frames = frames.contiguous(memory_format=torch.channels_last)
                name = f"{kind}_{what}_{contender}"
                runs[name] = make(network, frames)
                if contender == "compiled":
                    start = time.perf_counter()
                    runs[name]()
                    compiling[name] = round(time.perf_counter() - start, 1)
    seconds = interleaved(runs, args.rounds)
    ratios = {
        f"{kind}_{what}_eager/{kind}_{what}_{contender}": {}
        for kind in OVERLAYS
        for what in ("step", "evaluation")
        for contender in args.contenders
        if contender != "eager"
    }
    write_report(args.out, seconds, ratios, {"batch": args.batch, "seconds_of_first_compiled_call": compiling})


if __name__ == "__main__":
    main()
