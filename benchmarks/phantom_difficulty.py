"""Is the phantom hard in the right way? Colour alone must not solve it, a supervised network must.

On patients that neither has seen, label space `cholecseg8k_zhang8`, pooled IoU (one confusion matrix over all test
pixels): a random forest that sees a pixel's colour (RGB and HSV) must stay under 0.40 mIoU, with and without balanced
class weights; a small U-Net trained on all masks must reach 0.70; the most frequent class must have about 100 times the
pixels of the rarest.
Every patient and frame is drawn afresh from the seed, so anyone gets the same data.

    python benchmarks/phantom_difficulty.py [--out docs/evidence/phantom_difficulty.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import monai
import numpy as np
import sklearn
import torch
from monai.losses import DiceLoss
from monai.networks.nets import BasicUNet
from skimage.color import rgb2hsv
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from lap_monai.data import FrameCache, read_cholecseg8k
from lap_monai.data.phantom import PHANTOM_VERSION, write_phantom
from lap_monai.keys import IGNORE_INDEX
from lap_monai.label_space import get_label_space
from lap_monai.metrics import confusion_matrix, iou, miou

SPACE = get_label_space("cholecseg8k_zhang8")
COLOUR_LIMIT, NETWORK_GOAL = 0.40, 0.70


def load(folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """All frames `(N, H, W, 3)` and class ids `(N, H, W)` of a data set at `size`, their videos and pixel counts."""
    rows = read_cholecseg8k(folder)
    cache = FrameCache.build(rows, size, folder / "cache", progress=False)
    return {
        "images": np.stack([cache.image(i) for i in range(len(rows))]),
        "labels": np.stack([SPACE.encode(cache.mask(i)) for i in range(len(rows))]),
        "videos": np.array([row["video"] for row in rows]),
        "pixels": SPACE.count_pixels(cache.histograms),
    }


def score(predictions: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Pooled IoU of class ids, per class and mean."""
    matrix = confusion_matrix(torch.from_numpy(predictions), torch.from_numpy(labels), SPACE.num_classes)
    values = iou(matrix.numpy())
    return {
        "miou": round(miou(values), 4),
        "iou": {name: round(float(value), 4) for name, value in zip(SPACE.classes, values, strict=True)},
    }


def colour_features(images: np.ndarray) -> np.ndarray:
    """RGB and HSV of pixels, `(…, 3)` uint8 to `(…, 6)`."""
    return np.concatenate([images / np.float32(255), rgb2hsv(images).astype(np.float32)], axis=-1)


def fit_forest(train: dict[str, Any], test: dict[str, Any], balance: str | None, seed: int) -> dict[str, Any]:
    """Classify each pixel by its own colour."""
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(train["labels"].ravel() != IGNORE_INDEX)
    chosen = rng.choice(known, min(200_000, len(known)), replace=False)
    forest = RandomForestClassifier(60, min_samples_leaf=10, class_weight=balance, n_jobs=1, random_state=seed)
    forest.fit(colour_features(train["images"].reshape(-1, 3)[chosen]), train["labels"].ravel()[chosen])
    frames = np.arange(0, len(test["images"]), 2)
    features = colour_features(test["images"][frames].reshape(-1, 3))
    return score(
        forest.predict(features).astype(np.uint8).reshape(test["labels"][frames].shape), test["labels"][frames]
    )


def augment(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mirror half of the frames; change brightness and colour gains of each."""
    mirrored = torch.rand(len(images)) < 0.5
    images[mirrored], labels[mirrored] = images[mirrored].flip(-1), labels[mirrored].flip(-1)
    gains = 1 + 0.25 * (2 * torch.rand(len(images), 3, 1, 1) - 1)
    return (images * gains).clamp(0, 1), labels


def train_network(train: dict[str, Any], epochs: int, batch: int, seed: int) -> torch.nn.Module:
    """A BasicUNet of 16 to 256 channels on all masks: Dice and cross-entropy, ignoring what is no class."""
    torch.manual_seed(seed)
    network = BasicUNet(2, 3, SPACE.num_classes, features=(16, 32, 64, 128, 256, 16))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-4)
    steps = len(train["images"]) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs=epochs, steps_per_epoch=steps)
    counts = train["pixels"].sum(0)
    weight = torch.tensor((counts / counts.sum() + 0.01) ** -0.5, dtype=torch.float32)
    dice = DiceLoss(batch=True)
    cross_entropy = torch.nn.CrossEntropyLoss(weight / weight.mean(), ignore_index=IGNORE_INDEX)
    for _ in tqdm(range(epochs), desc="U-Net"):
        order = torch.randperm(len(train["images"]))
        for step in range(steps):
            index = order[step * batch : (step + 1) * batch].numpy()
            images = torch.from_numpy(train["images"][index]).permute(0, 3, 1, 2).float() / 255
            images, labels = augment(images, torch.from_numpy(train["labels"][index]).long())
            logits = network(images)
            known = (labels != IGNORE_INDEX)[:, None]
            target = torch.nn.functional.one_hot(labels.where(known[:, 0], 0), SPACE.num_classes).permute(0, 3, 1, 2)
            loss = cross_entropy(logits, labels) + dice(logits.softmax(1) * known, target * known)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def predict(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Class ids `(N, H, W)` of frames `(N, H, W, 3)`."""
    frames = torch.from_numpy(images).permute(0, 3, 1, 2)
    return torch.cat([network(part.float() / 255).argmax(1) for part in frames.split(16)]).numpy().astype(np.uint8)


def describe(data: dict[str, Any]) -> dict[str, Any]:
    """How often each class occurs."""
    pixels = data["pixels"].sum(0)
    videos = np.unique(data["videos"])
    seen = data["pixels"] > 0
    share = pixels / pixels.sum()
    return {
        "frames": len(seen),
        "videos": len(videos),
        "pixel_share": dict(zip(SPACE.classes, share.round(5).tolist(), strict=True)),
        "frame_share": dict(zip(SPACE.classes, seen.mean(0).round(3).tolist(), strict=True)),
        "video_share": {
            name: round(float(np.mean([seen[data["videos"] == video, i].any() for video in videos])), 3)
            for i, name in enumerate(SPACE.classes)
        },
        "most_to_least_frequent": round(float(share.max() / share.min()), 1),
    }


def main() -> None:
    """Draw the data, train both, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/phantom_difficulty.json"))
    parser.add_argument("--train-videos", type=int, default=36)
    parser.add_argument("--test-videos", type=int, default=10)
    parser.add_argument("--frames", type=int, default=14, help="per video")
    parser.add_argument("--clips", type=int, default=14, help="per video")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 160), metavar=("H", "W"), help="what both see")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        total = args.train_videos + args.test_videos
        root = write_phantom(
            Path(folder) / "phantom",
            videos=total,
            frames=args.frames,
            size=(427, 240),
            seed=args.seed,
            clips=args.clips,
        )
        drawn = time.perf_counter() - started
        data = load(root, tuple(args.size))
    names = np.unique(data["videos"])
    is_test = np.isin(data["videos"], names[-args.test_videos :])
    train = {key: value[~is_test] for key, value in data.items()}
    test = {key: value[is_test] for key, value in data.items()}
    results = {
        "description": __doc__.strip().splitlines()[0],
        "command": "python benchmarks/phantom_difficulty.py",
        "phantom_version": PHANTOM_VERSION,
        "label_space": SPACE.name,
        "arguments": {key: value for key, value in vars(args).items() if key != "out"},
        "data": {
            "train": describe(train),
            "test": describe(test),
            "frames_per_second_drawn": round(total * args.frames / drawn, 1),
        },
        "colour_forest": fit_forest(train, test, None, args.seed),
        "colour_forest_balanced": fit_forest(train, test, "balanced", args.seed),
    }
    print(json.dumps(results, indent=4))
    clock = time.perf_counter()
    network = train_network(train, args.epochs, 8, args.seed)
    results["unet"] = score(predict(network, test["images"]), test["labels"])
    results["unet_train_seconds"] = round(time.perf_counter() - clock)
    results["goals"] = {
        "colour_forest_below_0.40": max(results["colour_forest"]["miou"], results["colour_forest_balanced"]["miou"])
        < COLOUR_LIMIT,
        "unet_at_least_0.70": results["unet"]["miou"] >= NETWORK_GOAL,
    }
    results["versions"] = {
        "python": platform.python_version(), "torch": torch.__version__, "monai": monai.__version__,
        "sklearn": sklearn.__version__, "numpy": np.__version__,
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=4) + "\n", encoding="utf-8")
    print(json.dumps({key: results[key] for key in ("unet", "goals")}, indent=4))


if __name__ == "__main__":
    main()
