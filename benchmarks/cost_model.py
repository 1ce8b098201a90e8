"""What the large studies would take on GPUs: arithmetic counted, speed on this CPU measured, speed of a GPU assumed.

For each training the floating-point operations of one step are **counted** (torch's counter, on tensors without data).
`docs/evidence/step_overhead.json` holds the **measured** time of one multi-task step on a CPU; its operations over that
time are the speed that the CPU column assumes for everything. The GPU columns are **unmeasured**: they assume
`--gpu-tflops` sustained by each GPU and no loss between GPUs. That is fair to cells of a table, which are independent;
the steps of a stream follow each other, so that its GPUs share batches, or train several seeds side by side.
Evaluation and loading are left out; frames that nobody here could count are the sets' published totals.

    python benchmarks/cost_model.py --out docs/evidence/cost_model.json
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import BasicUNet, DiffusionModelUNet
from torch.utils.flop_counter import FlopCounterMode

from lap_monai.files import read_json, write_json
from lap_monai.networks import encoder_decoder

FEATURES = (32, 64, 128, 256, 512, 32)
#: Published totals of frames, and the share of CholecSeg8k's 17 videos that `zhang_1` trains on.
CHOLECSEG8K, TRAIN_SHARE = 8080, 12 / 17
DSAD = 13195


def counted(run: Any) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def unet_flops(decoded: int, encoded: int, size: tuple[int, int]) -> tuple[int, int]:
    """Operations of a forward pass: of `decoded` images in whole, and of `encoded` through the encoder alone."""
    with torch.device("meta"):
        network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=8, features=FEATURES)
        image = torch.empty(1, 3, *size)
    encode = encoder_decoder(network).encode
    return decoded * counted(lambda: network(image)), encoded * counted(lambda: encode(image))


def generator_flops(images: int) -> int:
    """Operations of a forward pass of the generator at its bundle's size."""
    with torch.device("meta"):
        network = DiffusionModelUNet(
            2, 3, 3, channels=(64, 128, 192, 256), attention_levels=(False, False, True, True), num_res_blocks=2,
            num_head_channels=32, norm_num_groups=8,
        )  # fmt: skip
        image, times = torch.empty(1, 3, 144, 256), torch.empty(1, dtype=torch.long)
    return images * counted(lambda: network(image, times))


def table_1(size: tuple[int, int] = (256, 256), epochs: int = 200) -> float:
    """Operations of configs/tables/cholecseg8k_table1.yaml: 4 multi-task rows and a supervised one, nine cells each."""
    frames = CHOLECSEG8K * TRAIN_SHARE
    multi_task = 3 * sum(unet_flops(60, 140, size))  # backward costs twice the forward pass
    supervised = 3 * sum(unet_flops(60, 0, size))
    total = 0.0
    for budget in (0.01, 0.05, 0.1):
        steps = math.ceil(frames * (1 - budget) / 140), math.ceil(frames * budget / 60)
        total += 3 * epochs * (4 * steps[0] * multi_task + steps[1] * supervised)
    return total


def stream(steps: int, epochs: int = 60, batch: int = 16, images: int = 1000) -> float:
    """Operations of DDCL over a DSAD stream: student and teacher, a generator a step, and its images."""
    frames = DSAD / steps
    decoded = unet_flops(1, 0, (256, 256))[0]
    training = frames * epochs * (3 + 1) * decoded * batch / (batch / 2)  # as many synthetic frames as real ones
    generator = frames * 200 * 3 * generator_flops(1) + images * 20 * generator_flops(1)
    return steps * (training + generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=Path("docs/evidence/step_overhead.json"))
    parser.add_argument("--gpu-tflops", type=float, default=20.0, help="assumed, sustained, in half precision")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/cost_model.json"))
    args = parser.parse_args()
    measured = read_json(args.measured)
    told = measured["settings"]
    edge = (told["size"], told["size"])
    step = 3 * sum(unet_flops(told["masked"], told["label_only"], edge))
    cpu = step / measured["seconds"]["multi_task"]
    jobs = {
        "cholecseg8k_table1": table_1(),
        "dsad_6-5, ddcl, one seed": stream(2),
        "dsad_1-1, ddcl, one seed": stream(11),
    }
    report: dict[str, Any] = {
        "counted": {
            "paper_step_tflop": round(3 * sum(unet_flops(60, 140, (256, 256))) / 1e12, 2),
            **{name: {"exaflop": round(flops / 1e18, 3)} for name, flops in jobs.items()},
        },
        "measured": {"cpu_gflops": round(cpu / 1e9, 1), "of": str(args.measured), "machine": measured["machine"]},
        "assumed": {"gpu_tflops": args.gpu_tflops, "frames": {"CholecSeg8k": CHOLECSEG8K, "DSAD": DSAD}},
        "computed_days": {
            name: {
                "this CPU": round(flops / cpu / 86400, 1),
                "1 GPU, unmeasured": round(flops / args.gpu_tflops / 1e12 / 86400, 2),
                "8 GPUs, unmeasured": round(flops / args.gpu_tflops / 8e12 / 86400, 2),
            }
            for name, flops in jobs.items()
        },
    }
    write_json(args.out, report)
    for name, days in report["computed_days"].items():
        print(f"{name:28s}", ", ".join(f"{value:g} days on {where}" for where, value in days.items()))
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
