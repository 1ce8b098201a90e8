"""What a multi-task training step costs beyond the arithmetic it cannot avoid.

Three steps on the same images and the same U-Net (32-64-128-256-512), taken in turn in one process:

- `multi_task`: `SupervisedTrainer` with the bundle's parts: masked and label-only images, contrast and classification;
- `unavoidable`: a plain `SupervisedTrainer` step on the masked images, then an encoder-only forward and backward pass
  of the label-only ones;
- `all_decoded`: a plain `SupervisedTrainer` step that decodes every image.

Goals: multi_task / unavoidable <= 1.10 and multi_task / all_decoded <= 0.75, at the paper's mix of 60 masked in 200.

    python benchmarks/step_overhead.py --out docs/evidence/step_overhead.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _common import interleaved, write_report
from _engine import mixed_batch, one_batch_trainer, step
from monai.networks.nets import BasicUNet

from lap_monai.handlers import LossInjector, PrepareMixedBatch, UnpackOutputs
from lap_monai.losses import ClassContrastiveLoss, MultiLabelLoss, SegmentationLoss
from lap_monai.networks import MultiTaskSegmenter, encoder_decoder

CLASSES = 8
FEATURES = (32, 64, 128, 256, 512, 32)


def unet() -> BasicUNet:
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=CLASSES, features=FEATURES)


def steps(masked: int, label_only: int, size: int, device: torch.device) -> dict[str, Callable[[], None]]:
    """Return the three steps by name, all of the same make-up."""
    data = mixed_batch(masked, label_only, (size, size), CLASSES)
    trainer = partial(one_batch_trainer, device=device, loss_function=SegmentationLoss())
    handlers = [
        UnpackOutputs(),
        LossInjector("dcl", ClassContrastiveLoss(), ["embeddings", "classes", "phase"], weight=0.1),
        LossInjector("cls", MultiLabelLoss(), ["class_logits", "classes"], weight=0.01),
    ]
    network = MultiTaskSegmenter(unet(), CLASSES)
    multi_task = trainer(network, data, prepare_batch=PrepareMixedBatch(), train_handlers=handlers)
    first = {"image": data["image"][:masked], "label": data["label"][:masked]}
    plain = trainer(unet(), first)
    every = trainer(unet(), {"image": data["image"], "label": data["label"]})
    encode = encoder_decoder(plain.network).encode
    others = data["image"][masked:]

    def unavoidable() -> None:
        step(plain, device)
        with torch.autocast("cuda", enabled=device.type == "cuda"):
            deepest = encode(others.to(device))[-1]
        deepest.float().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return {
        "multi_task": lambda: step(multi_task, device),
        "unavoidable": unavoidable,
        "all_decoded": lambda: step(every, device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masked", type=int, default=6, help="images with masks (paper: 60)")
    parser.add_argument("--label-only", type=int, default=14, help="images without (paper: 140)")
    parser.add_argument("--size", type=int, default=128, help="edge of the square crops in pixels (paper: 256)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/step_overhead.json"))
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seconds = interleaved(steps(args.masked, args.label_only, args.size, device), rounds=args.rounds)
    write_report(
        args.out,
        seconds,
        ratios={
            "multi_task/unavoidable": {"goal": "<= 1.10"},
            "multi_task/all_decoded": {"goal": "<= 0.75"},
        },
        settings={"masked": args.masked, "label_only": args.label_only, "size": args.size, "features": FEATURES},
    )


if __name__ == "__main__":
    main()
