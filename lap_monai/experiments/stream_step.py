"""A bundle run of a stream, and the files by which runs find each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lap_monai.data import StepData
from lap_monai.experiments.step import Step
from lap_monai.provenance import rows_fingerprint

#: Files of a run's folder: the study's settings, which overlays may replace, and the run's own, which come last.
STUDY_SETTINGS, TRAIN_SETTINGS, EVALUATE_SETTINGS = "study_settings.json", "step.json", "scoring.json"

#: What a training leaves for later ones.
MODEL, MEMORY, EXEMPLARS = "models/model.pt", "models/memory.pt", "models/exemplars.json"


@dataclass(frozen=True)
class StreamStep(Step):
    """A bundle run that belongs to step `number` of a stream."""

    number: int = 0


def frames_identity(step: StepData, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what tells the frames of a run, and the classes they teach, from those of others."""
    return {**step.identity, "old": step.task.old, "rows": rows_fingerprint(rows)}
