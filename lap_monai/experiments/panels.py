"""The same frames as every method segments them, for a table's report."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from lap_monai.checks import UserError
from lap_monai.data import row_id
from lap_monai.experiments.cells import Cell
from lap_monai.experiments.step_state import cell_done
from lap_monai.experiments.study import Study
from lap_monai.experiments.table import Table
from lap_monai.files import replacing
from lap_monai.handlers import read_checkpoint
from lap_monai.keys import IMAGE, LABEL
from lap_monai.reports.table_report import Panel

#: Shares of all frames that score lower than the shown ones: a good, a middling and a bad frame.
RANKS = (0.8, 0.5, 0.2)

#: File of a cell's folder with its predictions of the shown frames.
FILE_NAME = "panels.npz"


def draw_panels(table: Table, study: Study, cells: Sequence[Cell], data: Path) -> list[Panel]:
    """Return frames at three ranks of the score averaged over methods, each from another patient where that can be.

    They are from the first repetition, at the largest budget, for which any method has results.

    Args:
        table: the table.
        study: its data, split and label space.
        cells: all of its cells, run or not.
        data: the data set's folder.
    """
    shown = _repetition(table, cells)
    if not shown:
        return []
    scores = [_frame_scores(cell) for cell in shown]
    chosen = choose_frames(scores)
    made = {cell.row.name: _predictions(cell, study, data, chosen) for cell in shown}
    panels = []
    for place, name in enumerate(chosen):
        first = next(iter(made.values()))
        listed = ", ".join(
            f"{cell.row.label} {own[name][0]:.2f}" for cell, own in zip(shown, scores, strict=True) if name in own
        )
        ids = {method: arrays["predictions"][place] for method, arrays in made.items()}
        panels.append(Panel(name, f"mIoU {listed}", first["images"][place], first["truths"][place], ids))
    return panels


def choose_frames(scores: Sequence[Mapping[str, tuple[float, str]]]) -> list[str]:
    """Return the frames at `RANKS` of the mean score, from different patients while there are others.

    Args:
        scores: for each method, frame → (score, patient).
    """
    shared = set.intersection(*(set(own) for own in scores))
    ranked = sorted(shared, key=lambda name: (np.mean([own[name][0] for own in scores]), name))
    patient = {name: scores[0][name][1] for name in ranked}
    chosen: list[str] = []
    for rank in RANKS:
        wanted = rank * (len(ranked) - 1)
        taken = {patient[name] for name in chosen}
        free = [name for name in ranked if name not in chosen and patient[name] not in taken]
        free = free or [name for name in ranked if name not in chosen]
        if free:
            chosen.append(min(free, key=lambda name: abs(ranked.index(name) - wanted)))
    return chosen


def _repetition(table: Table, cells: Sequence[Cell]) -> list[Cell]:
    """The finished cells at one place of the axes: the largest budget, the first repetition."""
    largest = max(table.budgets)
    done = [cell for cell in cells if cell.at.budget == largest and cell_done(cell)]
    kept = [cell for cell in done if (cell.folder / "models" / "model.pt").is_file()]
    return [cell for cell in kept if cell.at == kept[0].at]


def _frame_scores(cell: Cell) -> dict[str, tuple[float, str]]:
    with (cell.folder / "frames.csv").open(encoding="utf-8", newline="") as file:
        return {row["id"]: (float(row["miou"]), row["video"]) for row in csv.DictReader(file) if row["miou"]}


def _predictions(cell: Cell, study: Study, data: Path, names: Sequence[str]) -> dict[str, Any]:
    def predict() -> dict[str, Any]:
        moved = {"dataset_dir": str(data.resolve()), "datalist": "$table_frames", "num_workers": 0}
        config = {**cell.steps[-1].merged(), **moved}
        parser = ConfigParser(config, globals={"table_frames": list(study.frames)})
        parser.parse()
        return predict_frames(parser, cell.folder / "models" / "model.pt", names)

    return kept_predictions(cell.folder, names, predict)


def kept_predictions(folder: Path, names: Sequence[str], predict: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `predict` returns for some frames, from the folder's file if that holds the same frames."""
    path = folder / FILE_NAME
    if path.is_file():
        with np.load(path) as file:
            kept = dict(file)
        if kept["names"].tolist() == list(names):
            return kept
    made = {"names": np.array(names), **predict()}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **made)
    return made


@torch.no_grad()
def predict_frames(parser: ConfigParser, checkpoint: Path, names: Sequence[str]) -> dict[str, Any]:
    """Segment frames of an evaluation.

    Args:
        parser: of the evaluation's config.
        checkpoint: the plain network.
        names: of the frames, see `row_id`.

    Returns:
        `images` `(N, H, W, 3)`, `truths` and `predictions` `(N, H, W)`, uint8; class ids as the network has them.

    Raises:
        UserError: if one is not among the evaluated frames.
    """
    dataset, device = parser.get_parsed_content("validate#dataset"), parser.get_parsed_content("device")
    network, inferer = parser.get_parsed_content("network"), parser.get_parsed_content("validate#inferer")
    read_checkpoint(checkpoint, {"model": parser.get_parsed_content("backbone_def")}, device=device)
    network.eval()
    places = {row_id(row): place for place, row in enumerate(dataset.rows)}
    if absent := [name for name in names if name not in places]:
        raise UserError(f"the evaluated part has no frame {absent[0]}; was the data set changed?")
    samples = [dataset[places[name]] for name in names]
    logits = [inferer(sample[IMAGE][None].to(device), network) for sample in samples]
    images = [(255 * sample[IMAGE].float().clamp(0, 1)).round().byte().permute(1, 2, 0).numpy() for sample in samples]
    return {
        "images": np.stack(images),
        "truths": np.stack([sample[LABEL][0].numpy().astype(np.uint8) for sample in samples]),
        "predictions": np.stack([scores.argmax(1)[0].cpu().numpy().astype(np.uint8) for scores in logits]),
    }
