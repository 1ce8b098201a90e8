"""What an evaluation leaves: `results.json`, `results.csv`, `frames.csv` and `report.html`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import from_engine

from lap_monai.files import read_json, write_json, write_text
from lap_monai.handlers.batch_values import FRAME_ID, batch_values, class_ids, picture
from lap_monai.handlers.embedding_sampler import EmbeddingSampler
from lap_monai.handlers.training_history import rows_to_csv
from lap_monai.keys import IMAGE, LABEL, PRED, VIDEO
from lap_monai.label_space import LabelSpace, get_label_space
from lap_monai.metrics import (
    MIN_VIDEOS,
    AbsentPolicy,
    FrameScores,
    class_iou,
    confusion_matrix,
    frame_miou,
    miou,
    summarise,
)
from lap_monai.provenance import command_line, git_revision, versions
from lap_monai.reports import Example, ExampleKeeper, write_report


class ResultsWriter:
    """Write the results of an evaluator whose key metric is a `SegmentationScores`, when its run completes.

    `results.json` holds one row with every score of `lap_monai.metrics.summarise`; `results.csv` the same, flat;
    `frames.csv` the scores of each frame; `report.html` draws them, with the best, middling and worst frames of rank 0.
    Files are written whole or not at all, by rank 0 only.

    Args:
        output_dir: the run folder.
        label_space: the label space or its name.
        method: name of the method, for tables.
        split: name of the split and part that was evaluated, for example `"zhang_1/test"`.
        budget: share of the masks that training saw; None if it does not apply.
        seed: of the training.
        fold: of a cross-validation.
        config: settings to keep beside the results.
        min_videos: fewest patients for a bootstrap interval.
        history: `history.json` of the training, for the report's curves; they are left out where it does not exist.
        embeddings: handler of the same evaluator whose vectors the report plots.
        examples: frames shown of each kind.
    """

    def __init__(
        self,
        output_dir: str | Path,
        label_space: LabelSpace | str,
        method: str,
        split: str,
        budget: float | str | None = None,
        seed: int | None = None,
        fold: int | None = None,
        config: Mapping[str, Any] | None = None,
        min_videos: int = MIN_VIDEOS,
        history: str | Path | None = None,
        embeddings: EmbeddingSampler | None = None,
        examples: int = 3,
    ) -> None:
        self.folder = Path(output_dir)
        self.label_space = get_label_space(label_space) if isinstance(label_space, str) else label_space
        self.identity = {"method": method, "budget": budget, "seed": seed, "fold": fold, "split": split}
        self.config = dict(config or {})
        self.min_videos = min_videos
        self.history = Path(history) if history else None
        self.embeddings = embeddings
        self.examples = examples
        self._keeper = ExampleKeeper(examples)

    def attach(self, engine: Engine) -> None:
        """Write at the end of each run of the evaluator `engine`."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep_examples)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def write(self, engine: Engine) -> None:
        """Write all files from what the key metric left in the engine's state.

        Raises:
            TypeError: if the key metric is not a `SegmentationScores`.
        """
        if idist.get_rank() != 0:
            return
        frames = _frame_scores(engine)
        classes = self.label_space.classes
        summary = summarise(frames, classes, min_videos=self.min_videos)
        row = {**self.identity, "label_space": self.label_space.name, **summary}
        results = {
            "rows": [row],
            "label_space": self.label_space.name,
            "config": self.config,
            "versions": versions(),
            "git": git_revision(),
            "command": command_line(),
        }
        write_json(self.folder / "results.json", results)
        write_text(self.folder / "results.csv", rows_to_csv([flat_row(row)]))
        write_text(self.folder / "frames.csv", rows_to_csv(_frame_rows(frames, classes)))
        write_report(
            self.folder / "report.html",
            results,
            self.label_space,
            history=read_json(self.history) if self.history and self.history.is_file() else (),
            examples=self._keeper.chosen(),
            embeddings=self.embeddings.embeddings() if self.embeddings else None,
        )

    def _start(self, _engine: Engine) -> None:
        self._keeper = ExampleKeeper(self.examples)

    def _keep_examples(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        images, labels, predictions = from_engine([IMAGE, LABEL, PRED])(engine.state.output)
        names, videos = (batch_values(engine.state.batch, key) for key in (FRAME_ID, VIDEO))
        for i, (image, label, prediction) in enumerate(zip(images, labels, predictions, strict=True)):
            ids = class_ids(prediction).to(label.device)
            counts = confusion_matrix(ids, label, self.label_space.num_classes).numpy(force=True)[0]
            if ((counts.sum(0) + counts.sum(1)) > 0).sum() < 2:
                continue  # of one class all through, such as a black frame: a perfect score and nothing to see
            self._keeper.add(
                Example(
                    name=str(names[i]) if names else f"frame {i} of batch {engine.state.iteration}",
                    video=str(videos[i]) if videos else "unnamed",
                    score=miou(class_iou(counts, AbsentPolicy.UNION)),
                    image=picture(image),
                    truth=label[0].numpy(force=True).astype("uint8"),
                    prediction=ids[0].numpy(force=True).astype("uint8"),
                )
            )


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a row of `results.json` into one of `results.csv`: scores only, one column a class."""
    plain = {key: value for key, value in row.items() if value is None or isinstance(value, (str, int, float))}
    flat = {**plain, "size": "x".join(str(length) for length in row["size"])}
    low, high = row["intervals"]["miou"] or (None, None)
    flat.update(miou_low=low, miou_high=high)
    flat.update(per_image_miou=row["per_image"]["miou"], per_video_miou=row["per_video"]["miou"])
    if row["nsd"]:
        flat.update(nsd_mean=row["nsd"]["mean"], nsd_tolerance_px=row["nsd"]["tolerance_px"])
    for score in ("iou", "dice"):
        flat.update({f"{score}/{name}": value for name, value in row[score].items()})
    return flat


def _frame_scores(engine: Engine) -> FrameScores:
    state: Any = engine.state
    name = getattr(state, "key_metric_name", None)
    frames = getattr(state, "metric_details", {}).get(name)
    if not isinstance(frames, FrameScores):
        raise TypeError(f"ResultsWriter: expected the key metric {name!r} to be a SegmentationScores.")
    return frames


def _frame_rows(frames: FrameScores, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    scores, means = class_iou(frames.matrices, AbsentPolicy.UNION), frame_miou(frames)
    rows = []
    for i, (name, video) in enumerate(zip(frames.ids, frames.videos, strict=True)):
        row: dict[str, Any] = {"id": name, "video": video, "miou": float(means[i])}
        row.update({f"iou/{label}": float(score) for label, score in zip(classes, scores[i], strict=True)})
        if frames.nsd is not None:
            row.update({f"nsd/{label}": float(score) for label, score in zip(classes, frames.nsd[i], strict=True)})
        rows.append(row)
    return rows
