"""Images a second in training: our bundle beside a zoo-style MONAI config and beside a loop that only trains.

For each network (widths of a U-Net) and frames of `--size`, in turn in one process, on the same phantom, a round being
an epoch of so many steps (fewer for larger networks), without validation:

- `zoo`: the config that model-zoo bundles have: `CacheDataset` (filled before the clock starts) of `LoadImaged`,
  `Resized`, …, stock random transforms, `SupervisedTrainer` with its usual handlers, metric and checkpoint;
- `zoo_workers`: the same with two loader processes;
- `plain`: a bare PyTorch loop over augmented batches that lie in memory as tensors: the practical limit;
- `ours`: `train.json` with `supervised.json`, all its handlers and checkpoints, the augmentation of the paper;
- `ours_batched`: that with `batch_augmentation.json`;
- `multi_plain`, `multi_ours`, `multi_ours_batched`: the same three with contrast and classification, twice as many
  label-only images as masked ones.

`outside` is the share of ours that passes outside forward, backward and step: loading, augmentation, handlers, files.
Goals: `plain/ours` at least 0.95 (times, so the share of the limit's speed), `zoo/ours` at least 3 where the network is
small.

`options` are those of torch: the time of the plain multi-task loop over that with the option, so more than 1 pays.

`--cpu-time` counts the seconds of one thread on the processor, not those on the wall, for a machine with other work: no
workers then, and what waits for the disk is not seen.

    python benchmarks/training.py --out docs/evidence/training.json
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _common import interleaved, machine, ratio
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointSaver, MeanDice, StatsHandler, from_engine
from monai.losses import DiceFocalLoss
from monai.networks.nets import BasicUNet
from monai.transforms import (
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    MapLabelValued,
    RandFlipd,
    RandGaussianSmoothd,
    RandSpatialCropd,
    RandZoomd,
    Resized,
    ScaleIntensityRanged,
    SpatialPadd,
)
from PIL import Image
from torch.utils.data import RandomSampler

from lap_monai.data import read_layout
from lap_monai.data.phantom import write_phantom
from lap_monai.files import write_json
from lap_monai.label_space import get_label_space
from lap_monai.losses import ClassContrastiveLoss, MultiLabelLoss, SegmentationLoss
from lap_monai.networks import MultiTaskSegmenter

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "cholecseg8k_contrastive" / "configs"
SPACE = get_label_space("cholecseg8k_zhang8")
KEYS, KEYS_OUT = ["image", "label"], ["pred", "label"]
#: Widths of the U-Net, from one that hardly costs anything to the paper's, and the steps of an epoch in `steps`.
NETWORKS = {
    "4-16": (4, 8, 8, 16, 16, 4),
    "8-128": (8, 16, 32, 64, 128, 8),
    "16-256": (16, 32, 64, 128, 256, 16),
    "32-512": (32, 64, 128, 256, 512, 32),
}
STEPS = {"4-16": 20, "8-128": 20, "16-256": 8, "32-512": 3}
NATIVE = (854, 480)

Epoch = Callable[[], None]


def unet(features: Sequence[int]) -> BasicUNet:
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=SPACE.num_classes, features=features)


def clock(args: argparse.Namespace) -> Callable[[], float]:
    return time.process_time if args.cpu_time else time.perf_counter


class Watch:
    """How much of a trainer's time passes outside forward, backward and step."""

    def __init__(self, trainer: SupervisedTrainer, clock: Callable[[], float]) -> None:
        self.inside = self.total = self._start = 0.0
        self._clock = clock
        trainer.network.register_forward_pre_hook(lambda *_: setattr(self, "_start", clock()))
        trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, self._add)

    def _add(self) -> None:
        self.inside += self._clock() - self._start

    def around(self, epoch: Epoch) -> Epoch:
        def run() -> None:
            start = self._clock()
            epoch()
            self.total += self._clock() - start

        return run

    @property
    def outside(self) -> float:
        return 1 - self.inside / self.total


def epoch_of(trainer: SupervisedTrainer) -> Epoch:
    """Train for an epoch by the engine's own code: a run that is interrupted after each, and goes on."""
    trainer.add_event_handler(Events.EPOCH_COMPLETED, trainer.interrupt)
    return lambda: trainer.run()


def finish(trainer: SupervisedTrainer) -> None:
    """End the run that `epoch_of` has interrupted; Ignite complains of one that is merely dropped."""
    trainer.state.max_epochs = trainer.state.epoch
    trainer.run()


def our_trainer(
    overlays: Sequence[str], features: Sequence[int], root: Path, args: argparse.Namespace
) -> SupervisedTrainer:
    """The bundle's trainer, as `python -m monai.bundle run` makes it."""
    window = list(args.size)
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / f"{name}.json") for name in ("train", "phantom", *overlays)],
        workflow_type="train",
        logging_file=False,
        bundle_root=str(root),
        dataset_dir=str(args.data),
        cache_dir=str(args.data.parent / "cache"),
        frame_size=window,
        window=window,
        epochs=10**6,
        val_interval=10**6,
        steps_per_epoch=args.steps,
        num_workers=0,
        budget=0.5,
        masked_per_batch=args.masked,
        device="$torch.device('cpu')",
        **{"backbone_def#features": list(features)},
        **({} if "supervised" in overlays else {"label_only_per_batch": 2 * args.masked}),
    )
    workflow.initialize()
    return workflow.parser.get_parsed_content("train#trainer")


def plain_loop(network: torch.nn.Module, batches: list[dict[str, Any]], args: argparse.Namespace, **options) -> Epoch:
    """A bare loop: a plain network learns to segment, a multi-task one contrast and classification as well.

    Args:
        network: `BasicUNet` or `MultiTaskSegmenter`.
        batches: used one after another, again and again.
        args: for the number of steps.
        options: `memory_format`, `dtype` of autocast, `fused` AdamW, `compile`.
    """
    memory_format = options.get("memory_format", torch.contiguous_format)
    network = network.to(memory_format=memory_format).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=options.get("fused"))
    segmentation, contrast, classification = SegmentationLoss(), ClassContrastiveLoss(), MultiLabelLoss()
    multi = isinstance(network, MultiTaskSegmenter)
    forward = torch.compile(network) if options.get("compile") else network
    data = itertools.cycle(batches)

    def loss_of(batch: dict[str, Any]) -> torch.Tensor:
        image = batch["image"].contiguous(memory_format=memory_format)
        if not multi:
            return segmentation(forward(image), batch["label"])
        output = forward(image, decode=args.masked)
        loss = segmentation(output.logits, batch["label"][: args.masked])
        loss = loss + 0.1 * contrast(output.embeddings, batch["classes"], batch["phase"])
        return loss + 0.01 * classification(output.class_logits, batch["classes"])

    def run() -> None:
        for _ in range(args.steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", options.get("dtype"), enabled="dtype" in options):
                loss = loss_of(next(data))
            loss.backward()
            optimizer.step()

    return run


def to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def first_channel(mask: Image.Image) -> Image.Image:
    return mask.getchannel(0)


def zoo_data(args: argparse.Namespace) -> CacheDataset:
    """The frames through stock transforms; what is not random is cached. MONAI's image axes are (W, H)."""
    size = args.size[::-1]
    lut = [value if value < SPACE.num_classes else 0 for value in SPACE.lut.tolist()]  # nothing to ignore here
    deterministic = [
        LoadImaged("image", reader="PILReader", converter=to_rgb),
        LoadImaged("label", reader="PILReader", converter=first_channel),
        EnsureChannelFirstd(KEYS),
        Resized(KEYS, size, mode=["area", "nearest"]),
        ScaleIntensityRanged("image", 0, 255, 0, 1),
        MapLabelValued("label", list(range(256)), lut),
    ]
    augmentation = [
        RandZoomd(KEYS, prob=1.0, min_zoom=0.9, max_zoom=1.1, mode=["bilinear", "nearest"], keep_size=False),
        SpatialPadd(KEYS, size, mode="reflect"),
        RandSpatialCropd(KEYS, size, random_size=False),
        RandFlipd(KEYS, prob=0.5, spatial_axis=0),
        RandGaussianSmoothd("image", (0.8, 1.4), (0.8, 1.4), prob=0.5),
    ]
    rows = read_layout(args.data)
    return CacheDataset(rows, Compose([*deterministic, *augmentation]), progress=False)


def zoo_trainer(
    features: Sequence[int], data: CacheDataset, workers: int, root: Path, args: argparse.Namespace
) -> SupervisedTrainer:
    """What the `train` section of a segmentation bundle of the model zoo makes."""
    network = unet(features)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    sampler = RandomSampler(data, num_samples=args.steps * args.masked)
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=10**6,
        train_data_loader=DataLoader(data, batch_size=args.masked, sampler=sampler, num_workers=workers),
        network=network,
        optimizer=optimizer,
        loss_function=DiceFocalLoss(to_onehot_y=True, softmax=True),
        postprocessing=AsDiscreted(KEYS_OUT, argmax=[True, False], to_onehot=SPACE.num_classes),
        key_train_metric={"train_mean_dice": MeanDice(output_transform=from_engine(KEYS_OUT))},
        train_handlers=[
            StatsHandler(
                iteration_log=False, tag_name="train_loss", output_transform=from_engine(["loss"], first=True)
            ),
            CheckpointSaver(str(root), {"model": network, "optimizer": optimizer}, save_interval=1, n_saved=1),
        ],
    )


def compare(features: Sequence[int], zoo: CacheDataset, scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure all contenders with one network. The loops take as many steps as the epochs have."""
    contenders: dict[str, Epoch] = {}
    watches: dict[str, Watch] = {}
    trainers = []
    for workers, name in ((0, "zoo"), *(() if args.cpu_time else ((2, "zoo_workers"),))):
        trainer = zoo_trainer(features, zoo, workers, scratch / name, args)
        contenders[name] = epoch_of(trainer)
        trainers.append(trainer)
    for prefix, overlays in (("", ["supervised"]), ("multi_", [])):
        for suffix, more in (("", []), ("_batched", ["batch_augmentation"])):
            name = f"{prefix}ours{suffix}"
            trainer = our_trainer([*overlays, *more], features, scratch / name, args)
            watches[name] = Watch(trainer, clock(args))
            if not suffix:
                network = MultiTaskSegmenter(unet(features), SPACE.num_classes) if prefix else unet(features)
                contenders[f"{prefix}plain"] = plain_loop(network, list(trainer.data_loader), args)
            contenders[name] = watches[name].around(epoch_of(trainer))
            trainers.append(trainer)
    seconds = interleaved(contenders, args.rounds, clock=clock(args))
    for trainer in trainers:
        finish(trainer)
    images = {name: args.steps * args.masked * (3 if name.startswith("multi") else 1) for name in seconds}
    pairs = {
        "plain/ours": ">= 0.95",
        "plain/ours_batched": "",
        "multi_plain/multi_ours": ">= 0.95",
        "multi_plain/multi_ours_batched": "",
        "zoo/ours": ">= 3 where the network is small",
        **({} if args.cpu_time else {"zoo_workers/ours": ""}),
    }
    return {
        "images_per_second": {n: round(images[n] / statistics.median(times), 2) for n, times in seconds.items()},
        "ratios": {names: {**ratio(seconds, names), "goal": goal} for names, goal in pairs.items()},
        "outside": {name: round(watch.outside, 4) for name, watch in watches.items()},
    }


def compare_options(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what torch offers, each on the plain multi-task loop."""
    features = NETWORKS[args.options_network]
    trainer = our_trainer([], features, args.data.parent / "options", args)
    batches = list(trainer.data_loader)
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "channels_last": {"memory_format": torch.channels_last},
        "bf16": {"dtype": torch.bfloat16},
        "fused_adamw": {"fused": True},
        **({"compile": {"compile": True}} if args.compile else {}),
    }
    loops = {}
    for name, chosen in options.items():
        network = MultiTaskSegmenter(unet(features), SPACE.num_classes)
        loops[name] = plain_loop(network, batches, args, **chosen)
    seconds = interleaved(loops, args.rounds, clock=clock(args))
    return {
        "network": args.options_network,
        "ratios": {f"plain/{name}": ratio(seconds, f"plain/{name}") for name in options if name != "plain"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--size", type=int, nargs=2, default=(72, 128), metavar=("H", "W"))
    parser.add_argument("--masked", type=int, default=6, help="masked images a step; multi-task has twice as many more")
    parser.add_argument("--most-steps", type=int, default=20, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="processor's seconds of one thread")
    parser.add_argument("--frames", type=int, default=48, help="of the phantom")
    parser.add_argument("--options-network", choices=NETWORKS, default="8-128")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too; compiling takes minutes")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/training.json"))
    args = parser.parse_args()
    args.threads = 1 if args.cpu_time else args.threads
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        args.data = write_phantom(scratch / "phantom", videos=4, frames=args.frames // 4, size=NATIVE)
        zoo = zoo_data(args)
        networks = {}
        for name in args.networks:
            args.steps = min(STEPS[name], args.most_steps)
            networks[name] = {"steps": args.steps, **compare(NETWORKS[name], zoo, scratch / name, args)}
        args.steps = min(STEPS[args.options_network], args.most_steps, 6)
        options = compare_options(args)
    report = {
        "networks": networks,
        "options": options,
        "settings": {
            key: value for key, value in vars(args).items() if key not in ("out", "data", "networks", "steps")
        },
        "load_average": os.getloadavg()[0],
        "machine": machine(),
    }
    write_json(args.out, report)
    for name, found in networks.items():
        print(f"{name}: {found['images_per_second']}")
        for names, value in found["ratios"].items():
            print(f"  {names:34s} {value['median']:.3f}  {value['goal']}")
        print(f"  outside: {found['outside']}")
    for names, value in options["ratios"].items():
        print(f"{names:36s} {value['median']:.3f}")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
