"""What a DDCL step costs beyond plain fine-tuning on the same images.

Steps on the same images and the same U-Net, taken in turn in one process; half of the images are real, with masks, and
half synthetic, without:

- `ddcl`: the bundle's parts, with ddcl_expert.json, its dearest form: what teacher and expert say of all images at
  hand as bytes, completed labels, distillation, cross-image contrast with a full memory;
- `ddcl_asked`: the same, with teacher and expert asked about all images in every step;
- `finetune`: a stock `SupervisedTrainer` step with the bundle's supervised loss, every image with a mask.

Goal: ddcl / finetune <= 1.5.

    python benchmarks/incremental_step.py --out docs/evidence/incremental_step.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from _common import interleaved, write_report
from _engine import one_batch_trainer, step
from monai.networks.nets import BasicUNet

from lap_monai.handlers import CrossImageMemory, LossInjector, PseudoLabels, TeacherTargets, UnpackOutputs
from lap_monai.losses import (
    CrossImageContrastLoss,
    LabelledImagesLoss,
    MarginalSegmentationLoss,
    NoLoss,
    ReplayDistillationLoss,
)
from lap_monai.networks import IncrementalSegmenter
from lap_monai.task_stream import Knowledge, TaskStep

STEP = TaskStep(("background", *"abcdefghijk"), tuple("abcdef"), tuple("ghijk"))
FEATURES = (32, 64, 128, 256, 512, 32)
BLOCK = 32  # edge of a structure in pixels


def unet(channels: int, features: tuple[int, ...]) -> BasicUNet:
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=channels, features=features)


def batch(count: int, size: int, cached: bool) -> dict[str, torch.Tensor]:
    """Half with masks of blocks of new classes, half without; `cached` brings the networks' answers along."""
    real = count - count // 2
    blocks = torch.randint(STEP.num_channels, (count, 1, size // BLOCK, size // BLOCK), dtype=torch.uint8)
    blocks[(blocks > 0) & (blocks < STEP.new_channels[0])] = 0
    label = blocks.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)
    label[real:] = 255
    knowledge = torch.full((count, STEP.num_channels), int(Knowledge.UNKNOWN), dtype=torch.uint8)
    knowledge[:real, list(STEP.new_channels)] = int(Knowledge.MASK)
    content = {
        "image": torch.rand(count, 3, size, size),
        "label": label,
        "knowledge": knowledge,
        "has_mask": torch.arange(count) < real,
    }
    if cached:
        answers = torch.zeros(count, 2 + len(STEP.seen), size // BLOCK, size // BLOCK, dtype=torch.uint8)
        for half in (slice(0, 1 + len(STEP.old)), slice(1 + len(STEP.old), None)):  # teacher, expert: sure of a class
            part = answers[:, half]
            part.scatter_(1, torch.randint(part.shape[1], (count, 1, *part.shape[2:])), 250)
        content["soft_targets"] = answers.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)
    return content


def ddcl(data: dict[str, torch.Tensor], features: tuple[int, ...], memory: int, device: torch.device) -> Callable:
    teacher, expert = (
        unet(1 + len(classes), features).to(device).eval().requires_grad_(False) for classes in (STEP.old, STEP.new)
    )
    remembering = CrossImageMemory(memory)
    classes = torch.arange(1, STEP.num_channels).repeat_interleave(memory)
    vectors = torch.nn.functional.normalize(torch.randn(len(classes), 256), dim=1)
    remembering.memory.remember(vectors.to(device), classes.to(device))
    engine = one_batch_trainer(
        IncrementalSegmenter(unet(STEP.num_channels, features), embedding_dim=256),
        data,
        device,
        loss_function=NoLoss(),
        train_handlers=[
            UnpackOutputs(),
            TeacherTargets(teacher, expert, expert_on_real=True),
            PseudoLabels(STEP),
            remembering,
            LossInjector(
                "supervised", LabelledImagesLoss(MarginalSegmentationLoss()), ["has_mask", "pred", "label", "knowledge"]
            ),
            LossInjector(
                "kd",
                ReplayDistillationLoss(STEP),
                ["pred", "teacher_logits", "expert_logits", "teacher_ignore", "label", "knowledge"],
                weight=5,
            ),
            LossInjector(
                "contrast", CrossImageContrastLoss(), ["embeddings", "pseudo_label", "pred", "memory"], weight=0.1
            ),
        ],
    )
    return lambda: step(engine, device)


def finetune(data: dict[str, torch.Tensor], features: tuple[int, ...], device: torch.device) -> Callable:
    label = torch.where(data["label"] == 255, data["label"].flip(0), data["label"])
    engine = one_batch_trainer(
        unet(STEP.num_channels, features),
        {"image": data["image"], "label": label},
        device,
        loss_function=MarginalSegmentationLoss(),
    )
    return lambda: step(engine, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8, help="images a step, half of them synthetic (bundle: 16)")
    parser.add_argument("--size", type=int, default=128, help="edge of the square crops in pixels (bundle: 256)")
    parser.add_argument("--features", type=int, nargs=6, default=FEATURES, help="widths of the U-Net")
    parser.add_argument("--memory", type=int, default=1000, help="remembered features of each class (bundle: 5000)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/incremental_step.json"))
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features = tuple(args.features)
    cached, asked = (batch(args.images, args.size, kept) for kept in (True, False))
    seconds = interleaved(
        {
            "ddcl": ddcl(cached, features, args.memory, device),
            "ddcl_asked": ddcl(asked, features, args.memory, device),
            "finetune": finetune(asked, features, device),
        },
        rounds=args.rounds,
    )
    write_report(
        args.out,
        seconds,
        ratios={"ddcl/finetune": {"goal": "<= 1.5"}, "ddcl_asked/finetune": {"goal": "for comparison"}},
        settings={key: value for key, value in vars(args).items() if key not in ("out", "rounds")},
    )


if __name__ == "__main__":
    main()
