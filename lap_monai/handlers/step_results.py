"""What the evaluation of an incremental step leaves: `results.json`, `results.csv` and `frames.csv`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events

from lap_monai.files import write_json, write_text
from lap_monai.handlers.step_scores import StepFrameScores
from lap_monai.handlers.training_history import rows_to_csv
from lap_monai.metrics import AbsentPolicy, class_dice, class_iou, dice, iou, iou_per_image, miou, pool_by_video
from lap_monai.metrics.overlap import skip_nan_mean
from lap_monai.metrics.summary import by_class, nullable
from lap_monai.provenance import command_line, git_revision, versions
from lap_monai.task_stream import TaskStep


class StepResults:
    """Write the results of an evaluator whose key metric is a `StepScores`, when its run completes.

    `results.json` holds one row: IoU and Dice per class, pooled, per patient and per image, each class judged where the
    labels know of it; means over the step's classes, the old and the new ones, none with the background. Classes that
    the truth lacks are null, skipped in means and listed under `absent`. Rank 0 writes, whole files or none.

    Args:
        output_dir: the run folder.
        step: whose classes are meant.
        identity: what the row says of the run: stream, step, method, seed.
        config: settings to keep beside the results.
    """

    def __init__(
        self,
        output_dir: str | Path,
        step: TaskStep,
        identity: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(output_dir)
        self.step = step
        self.identity, self.config = dict(identity or {}), dict(config or {})

    def attach(self, engine: Engine) -> None:
        """Write at the end of each run of the evaluator `engine`."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write all files from what the key metric left in the engine's state.

        Raises:
            TypeError: if the key metric is not a `StepScores`.
        """
        if idist.get_rank() != 0:
            return
        state: Any = engine.state
        details = getattr(state, "metric_details", {}).get(getattr(state, "key_metric_name", None))
        if not isinstance(details, StepFrameScores):
            raise TypeError("StepResults: expected the key metric to be a StepScores.")
        row = {**self.identity, **step_row(details, self.step)}
        results = {
            "rows": [row],
            "config": self.config,
            "versions": versions(),
            "git": git_revision(),
            "command": command_line(),
        }
        write_json(self.folder / "results.json", results)
        write_text(self.folder / "results.csv", rows_to_csv([_flat(row)]))
        write_text(self.folder / "frames.csv", rows_to_csv(_frame_rows(details, self.step.channels)))


def step_row(details: StepFrameScores, step: TaskStep) -> dict[str, Any]:
    """Return the scores of a step as one JSON-able row."""
    counts, classes = details.counts, step.channels
    pooled = iou(counts)[:, 1]
    by_image = iou_per_image(counts)[:, 1]
    dice_by_image = skip_nan_mean(class_dice(counts, AbsentPolicy.UNION))[:, 1]
    names, by_patient = pool_by_video(counts, details.frames.videos)
    each = class_iou(by_patient)[..., 1]
    by_video = skip_nan_mean(each)
    groups = {"": step.old_channels + step.new_channels, "_old": step.old_channels, "_new": step.new_channels}
    return {
        **{f"miou{name}": nullable(miou(pooled[list(group)])) for name, group in groups.items()},
        "mdice": nullable(miou(dice(counts)[1:, 1])),
        "iou": by_class(pooled, classes),
        "dice": by_class(dice(counts)[:, 1], classes),
        "per_image": {
            "miou": nullable(miou(by_image[1:])),
            "iou": by_class(by_image, classes),
            "dice": by_class(dice_by_image, classes),
        },
        "per_video": {
            "miou": nullable(miou(by_video[1:])),
            "iou": by_class(by_video, classes),
            "videos": {
                name: {
                    "miou": nullable(miou(scores[1:])),
                    "iou": by_class(scores, classes),
                    "n_frames": details.frames.videos.count(name),
                }
                for name, scores in zip(names, each, strict=True)
            },
        },
        "n_frames": len(details.frames.ids),
        "n_videos": len(set(details.frames.videos)),
        "absent": [name for name, value in zip(classes, pooled, strict=True) if np.isnan(value)],
        "channels": list(classes),
        "size": list(details.frames.size),
    }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in row.items() if value is None or isinstance(value, (str, int, float))}
    flat.update(per_image_miou=row["per_image"]["miou"], per_video_miou=row["per_video"]["miou"])
    for score in ("iou", "dice"):
        flat.update({f"{score}/{name}": value for name, value in row[score].items()})
    return flat


def _frame_rows(details: StepFrameScores, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    scores = class_iou(details.counts, AbsentPolicy.UNION)[..., 1]
    names = zip(details.frames.ids, details.frames.videos, scores, strict=True)
    return [
        {"id": name, "video": video, **{f"iou/{label}": float(v) for label, v in zip(classes, values, strict=True)}}
        for name, video, values in names
    ]
