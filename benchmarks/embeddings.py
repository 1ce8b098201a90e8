"""What a table's methods do to the encoder: alignment, uniformity and separability of the evaluated frames, per scale.

For every finished cell of a table's run folder the trained encoder sees the evaluated frames. An image's embedding is
each map's maxima, as the projection heads take them, each feature with mean 0 and variance 1 over the frames, scaled to
length 1, so that methods with and without trained heads can be compared. Scale 1 is the finest.

- `alignment`: mean squared distance of frames of **different patients** with equal class vectors (Wang and Isola 2020;
  smaller: more alike), and `gap`: by how much other frames of different patients are farther apart;
- `uniformity`: log of the mean of exp(-2 d^2) over all pairs (ibid.; smaller: more spread);
- `patient`, `classes`: shares of the embeddings' variance between patients, and between class vectors (eta squared;
  with few frames in a group it is high by chance, alike for all methods);
- `separability`: mean recall over classes of a nearest-centroid classifier of pixels, its centroids from all other
  patients: how well classes lie apart across patients before the decoder.

Beside them, `terms`: every loss term in the first and the last epoch. The contrast of B images that the network cannot
tell apart is ln(B - 1) a scale.

    python -m lap_monai table configs/tables/T.yaml --data DATA --out RUN
    python benchmarks/embeddings.py RUN --out docs/evidence/T_embeddings.json
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from scipy.spatial.distance import pdist, squareform
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from lap_monai.checkpoints import read_checkpoint
from lap_monai.data import FrameDataset
from lap_monai.files import read_json, write_json
from lap_monai.keys import IGNORE_INDEX, IMAGE, LABEL, VIDEO
from lap_monai.networks import encoder_decoder

#: Pixels of a class and frame that are looked at, at most, per scale.
PIXELS = 64

#: What a history tells beside the terms of the loss.
NO_TERMS = ("epoch", "seconds", "lr", "loss", "without_positive")


def cell_figures(folder: Path) -> dict[str, dict[str, float]]:
    """Return scale → figures of the cell in `folder`."""
    parser = ConfigParser()
    parser.read_config(folder / "config_evaluate.json")
    frames: FrameDataset = parser.get_parsed_content("validate#dataset")
    network = parser.get_parsed_content("backbone_def").eval()
    read_checkpoint(folder / "models" / "model.pt", {"model": network})
    scales = int(parser.get_parsed_content("scales"))
    encode = encoder_decoder(network).encode
    samples = [frames[index] for index in range(len(frames))]
    patients = np.array([str(sample[VIDEO]) for sample in samples])
    _, content = np.unique(frames.class_vectors, axis=0, return_inverse=True)
    with torch.no_grad():
        maps = [encode(torch.as_tensor(sample[IMAGE])[None])[-scales:] for sample in samples]
    labels = [torch.as_tensor(sample[LABEL]) for sample in samples]
    figures = {}
    for scale in range(scales):
        features = [levels[scale][0].float() for levels in maps]
        vectors = np.stack([feature.flatten(1).amax(1).numpy() for feature in features])
        figures[f"scale_{scale + 1}"] = image_figures(vectors, patients, content.ravel()) | {
            "separability": separability(features, labels, patients)
        }
    return figures


def terms(folder: Path) -> dict[str, list[float]]:
    """Return loss term → its mean in the first and in the last epoch of the cell in `folder`."""
    history = read_json(folder / "history.json")
    names = [name for name in history[0] if name not in NO_TERMS and not name.startswith("val_")]
    return {name: [history[0][name], history[-1][name]] for name in names}


def image_figures(vectors: np.ndarray, patients: np.ndarray, content: np.ndarray) -> dict[str, float]:
    """Return the figures of image embeddings `(N, D)`, given each one's patient and class vector `(N,)`."""
    varying = vectors[:, vectors.std(0) > 1e-8]
    unit = (varying - varying.mean(0)) / varying.std(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    squared = squareform(pdist(unit, "sqeuclidean"))
    pairs = np.triu(np.ones_like(squared, bool), 1)
    across = pairs & (patients[:, None] != patients)
    equal = content[:, None] == content
    alignment = squared[across & equal].mean()
    return {
        "alignment": float(alignment),
        "gap": float(squared[across & ~equal].mean() - alignment),
        "uniformity": float(np.log(np.exp(-2 * squared[pairs]).mean())),
        "patient": explained(unit, patients),
        "classes": explained(unit, content),
    }


def explained(vectors: np.ndarray, groups: np.ndarray) -> float:
    """Return the share of the variance of `(N, D)` that lies between groups `(N,)`."""
    centred = vectors - vectors.mean(0)
    between = sum((groups == name).sum() * (centred[groups == name].mean(0) ** 2).sum() for name in np.unique(groups))
    return float(between / (centred**2).sum())


def separability(features: list[Tensor], labels: list[Tensor], patients: np.ndarray) -> float:
    """Return the balanced accuracy of nearest centroids over pixels, each patient by the centroids of all others."""
    found: list[np.ndarray] = []
    classes: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    rng = np.random.default_rng(0)
    for feature, label, patient in zip(features, labels, patients, strict=True):
        small = interpolate(label[None].float(), feature.shape[1:], mode="nearest-exact")[0, 0].flatten().numpy()
        pixels = feature.flatten(1).T.numpy()
        for name in np.setdiff1d(np.unique(small), [IGNORE_INDEX]):
            chosen = rng.permutation(np.flatnonzero(small == name))[:PIXELS]
            found.append(pixels[chosen])
            classes.append(np.full(len(chosen), int(name)))
            owners.append(np.full(len(chosen), patient))
    values, truth, owner = np.concatenate(found), np.concatenate(classes), np.concatenate(owners)
    values = values / (values.std(0) + 1e-8)
    hits: dict[int, list[float]] = defaultdict(list)
    for patient in np.unique(owner):
        mine = owner == patient
        names = np.unique(truth[~mine])
        centroids = np.stack([values[~mine & (truth == name)].mean(0) for name in names])
        distance = (values[mine] ** 2).sum(1)[:, None] - 2 * values[mine] @ centroids.T + (centroids**2).sum(1)
        answer = names[distance.argmin(1)]
        for name in np.unique(truth[mine]):
            hits[int(name)].extend((answer == name)[truth[mine] == name].tolist())
    return float(np.mean([np.mean(values) for values in hits.values()]))


def summary(cells: list[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    """Average over subsets, beside the differences to the reference method on equal subsets."""
    by_key = {(cell["method"], cell["budget"], cell["subset"], cell["seed"]): cell["scales"] for cell in cells}
    rows = []
    for method, budget in dict.fromkeys((cell["method"], cell["budget"]) for cell in cells):
        own = {key[2:]: scales for key, scales in by_key.items() if key[:2] == (method, budget)}
        for scale in next(iter(own.values())):
            row: dict[str, Any] = {"method": method, "budget": budget, "scale": scale, "cells": len(own)}
            for name in next(iter(own.values()))[scale]:
                values = [scales[scale][name] for scales in own.values()]
                pairs = [
                    scales[scale][name] - by_key[(reference, budget, *rest)][scale][name]
                    for rest, scales in own.items()
                    if (reference, budget, *rest) in by_key
                ]
                row[name] = {"mean": _rounded(np.mean(values)), "sd": _rounded(np.std(values, ddof=1))}
                if method != reference and pairs:
                    row[name] |= {"difference": _rounded(np.mean(pairs)), "higher_in": sum(d > 0 for d in pairs)}
            rows.append(row)
    return rows


def mean_terms(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average the terms over the subsets of each method and budget."""
    grouped: dict[tuple[str, float], list[dict[str, list[float]]]] = defaultdict(list)
    for cell in cells:
        grouped[cell["method"], cell["budget"]].append(cell["terms"])
    return [
        {"method": method, "budget": budget}
        | {name: [_rounded(np.mean([one[name][end] for one in found])) for end in (0, 1)] for name in found[0]}
        for (method, budget), found in grouped.items()
    ]


def _rounded(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a table")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    table = read_json(args.run / "results.json")
    cells = [
        {key: row[key] for key in ("method", "budget", "subset", "seed")}
        | {"terms": terms(args.run / row["folder"]), "scales": cell_figures(args.run / row["folder"])}
        for row in tqdm(table["rows"], desc="cells", disable=None)
    ]
    report = {
        "table": table["table"],
        "labels": table["labels"],
        "reference": table["reference"],
        "terms": mean_terms(cells),
        "summary": summary(cells, table["reference"]),
        "cells": cells,
    }
    print(f"wrote {write_json(args.out, report)}")


if __name__ == "__main__":
    main()
