"""What the audit of synthetic sets is worth, and what audited sets are worth as replay.

The audit, in pixels alone and without any generator, over several draws of patients: some learn, some are the null, and
the frames of all others are neither. Of these it should flag about as few as its level says, of planted copies (exact,
flipped, re-encoded, of other light, shifted, cropped, all at once) every one. On a phantom, and on Endoscapes where
`--data` holds it.

Sets and trainings are made before and only collected here:

    python -m monai.bundle run --config_file configs/audit.json …            (in the replay bundle; once a sampler)
    python -m lap_monai run …/train.json …/supervised.json configs/overlays/replay_utility.json …   (and evaluate.json)
    python benchmarks/replay.py --data DATA --audits phantom/dpm20=RUN/audit.json … --runs phantom/replay/0=RUN …
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import machine
from tqdm import tqdm

from lap_monai.data import read_layout, write_phantom
from lap_monai.files import read_json, write_json
from lap_monai.replay import CachedFrames, MemorisationAudit, null_frames, plant_copies

SIZE = (128, 224)


def load(root: Path, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames `(N, H, W, 3)` that are not black, and the patient of each."""
    rows = read_layout(root)
    frames = CachedFrames(rows, SIZE, cache)
    return np.stack([frames[i] for i in range(len(frames))]), np.array([row["video"] for row in frames.rows])


def draw_patients(videos: np.ndarray, rng: np.random.Generator, level: float) -> tuple[np.ndarray, ...]:
    """Masks of three disjoint groups of patients: training, a null that is just large enough, others."""
    names = rng.permutation(np.unique(videos))
    counts = np.array([(videos == name).sum() for name in names])
    null = int(np.searchsorted(np.cumsum(counts), null_frames(level))) + 1
    training = null + (len(names) - null) * 2 // 3
    groups = names[null:training], names[:null], names[training:]
    return tuple(np.isin(videos, group) for group in groups)


def measure(frames: np.ndarray, videos: np.ndarray, draws: int, planted: int, level: float, seed: int) -> dict:
    """Flag shares of the audit over several draws of patients."""
    others, limits, caught, farthest = [], [], [], []
    for draw in tqdm(range(draws), "draws of patients"):
        rng = np.random.default_rng([seed, draw])
        training, null, rest = draw_patients(videos, rng, level)
        audit = MemorisationAudit(frames[training], frames[null], videos[null].tolist(), level=level)
        limits.append(audit.pixel_limit)
        others.append(audit(frames[rest]).share)
        learned = np.flatnonzero(training)
        copies = [plant_copies(frames[i], rng) for i in rng.choice(learned, min(planted, len(learned)), replace=False)]
        results = {name: audit([of[name] for of in copies]) for name in copies[0]}
        caught.append({name: float(result.flagged.mean()) for name, result in results.items()})
        farthest.append({name: float(result.pixel.distance.max()) for name, result in results.items()})
    return {
        "frames": len(frames),
        "patients": len(np.unique(videos)),
        "draws": draws,
        "level": level,
        "planted_per_disguise": draws * planted,
        "planted_caught": {name: round(float(np.mean([of[name] for of in caught])), 4) for name in caught[0]},
        "farthest_copy": {name: round(max(of[name] for of in farthest), 4) for name in farthest[0]},
        "limit": spread(limits),
        "flagged_of_new_patients": spread(others),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and range."""
    return {"mean": round(float(np.mean(values)), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


def audited_set(path: Path) -> dict[str, Any]:
    """What an `audit.json` says about a set, for the table of samplers."""
    found = read_json(path)
    return {
        "sampler": found["sampler"],
        "images": found["images"],
        "kept": found["kept"],
        "flagged_share": found["memorisation"]["share"],
        "planted_caught": found["memorisation"]["planted_caught"],
        "dropped": {reason: entry["dropped"] for reason, entry in found["filters"].items()},
        "quality": found["quality"],
    }


def utility(run: Path) -> dict[str, Any]:
    """Score on real held-out frames of an evaluated run."""
    row = read_json(run / "results.json")["rows"][0]
    return {key: row[key] for key in ("method", "split", "miou", "iou", "n_frames", "n_videos", "seed")}


def training(run: Path) -> dict[str, Any]:
    """What a generator's training took, by its run folder; the time means something where nothing else ran."""
    record = read_json(run / "run.json")
    told = record["settings"]
    return {
        "seconds": record["seconds"],
        "device": record["device"],
        **{key: told.get(key) for key in ("epochs", "batch_size", "frame_size", "channels", "patch")},
        "command": [word for word in record["command"].split() if "=" in word],
    }


def over_seeds(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and range of the mIoU of the runs that share a name but for what follows its last `/`."""
    names = dict.fromkeys(name.rpartition("/")[0] for name in rows)
    return {
        name: {"runs": len(scores)} | spread(scores)
        for name in names
        if (scores := [row["miou"] for key, row in rows.items() if key.rpartition("/")[0] == name])
    }


def named(words: Sequence[str]) -> dict[str, Path]:
    """`NAME=PATH` words as a dict."""
    return {name: Path(path) for name, _, path in (word.partition("=") for word in words)}


def main() -> None:
    """Measure, collect, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the research data sets; without it the phantom alone")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/replay.json"))
    parser.add_argument("--audits", nargs="*", default=[], metavar="NAME=audit.json")
    parser.add_argument("--runs", nargs="*", default=[], metavar="NAME/SEED=RUN", help="evaluated run folders")
    parser.add_argument("--trainings", nargs="*", default=[], metavar="NAME=RUN", help="run folders of generators")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--planted", type=int, default=100, help="training frames a draw of which copies are planted")
    parser.add_argument("--level", type=float, default=0.01)
    parser.add_argument("--phantom-videos", type=int, default=40)
    parser.add_argument("--phantom-frames", type=int, default=12, help="per video")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        roots = {
            "phantom": write_phantom(
                Path(folder) / "phantom", videos=args.phantom_videos, frames=args.phantom_frames, clips=4,
                size=SIZE[::-1], seed=args.seed,
            )
        }  # fmt: skip
        if args.data is not None:
            roots["endoscapes"] = args.data / "endoscapes_seg50"
        audits = {
            name: measure(*load(root, Path(folder) / "cache"), args.draws, args.planted, args.level, args.seed)
            for name, root in roots.items()
        }
    used = {name: utility(path) for name, path in named(args.runs).items()}
    report = {
        "description": (__doc__ or "").splitlines()[0],
        "audit": audits,
        "trainings": {name: training(path) for name, path in named(args.trainings).items()},
        "sets": {name: audited_set(path) for name, path in named(args.audits).items()},
        "utility": used,
        "utility_over_seeds": over_seeds(used),
        "settings": {"draws": args.draws, "planted": args.planted, "level": args.level, "seed": args.seed},
        "machine": machine(),
    }
    write_json(args.out, report)
    for name, found in audits.items():
        shares = ", ".join(f"{disguise} {share:.1%}" for disguise, share in found["planted_caught"].items())
        print(f"{name}: new patients flagged {found['flagged_of_new_patients']['mean']:.2%}; caught: {shares}")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
