"""Data sets on disk, as datalist rows, splits, budgets and samples."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lap_monai.data.budget import Budget, fingerprint
from lap_monai.data.budgets import UNITS, draw_budget, load_budget, lost_classes, plan_budget, write_budget
from lap_monai.data.cache import FrameCache
from lap_monai.data.class_balance import balanced_class_weights
from lap_monai.data.exemplars import draw_exemplars, read_exemplars, write_exemplars
from lap_monai.data.finding import Finding
from lap_monai.data.image_files import read_frame, read_label, read_mask, resize_frame, resize_mask
from lap_monai.data.layout import Layout, Row, row_id
from lap_monai.data.layouts import (
    LAYOUTS,
    detect_layout,
    find_layout,
    read_cholecseg8k,
    read_dsad,
    read_endoscapes,
    read_layout,
    scan_layout,
)
from lap_monai.data.ordering import drawn_order, natural_key
from lap_monai.data.partial_labels import hide_classes, limit_knowledge, row_knowledge, weak_label_contradictions
from lap_monai.data.phases import PHASES, PhaseTable, phase_index, read_phase_file, read_phases
from lap_monai.data.split import PARTS, Split
from lap_monai.data.splits import (
    apply_split,
    folder_split,
    kfold_by_video,
    load_split,
    split_by_video,
    write_split,
)
from lap_monai.data.step_files import StepData, read_step, step_of_plan, write_step

if TYPE_CHECKING:
    from lap_monai.data.dataset import FrameDataset
    from lap_monai.data.frame_batches import FrameBatches
    from lap_monai.data.frame_probe import is_black
    from lap_monai.data.phantom import write_phantom
    from lap_monai.data.replay_dataset import ReplayDataset
    from lap_monai.data.sampler import MixedBatchSampler, positive_groups
    from lap_monai.data.soft_targets import SoftTargets, unpack_soft_targets
    from lap_monai.data.step_dataset import StepDataset
    from lap_monai.data.stream_plan import StreamPlan
    from lap_monai.data.stream_planner import open_stream, plan_stream
    from lap_monai.data.streams import Stream
    from lap_monai.data.two_views import TwoViews
    from lap_monai.data.unmasked import UnmaskedFrames, read_unmasked

# Imported on first use: torch, MONAI and scikit-image cost seconds, which commands that only look at files are spared.
_ON_USE = {
    "FrameBatches": "frame_batches",
    "FrameDataset": "dataset",
    "MixedBatchSampler": "sampler",
    "ReplayDataset": "replay_dataset",
    "SoftTargets": "soft_targets",
    "StepDataset": "step_dataset",
    "Stream": "streams",
    "StreamPlan": "stream_plan",
    "TwoViews": "two_views",
    "UnmaskedFrames": "unmasked",
    "is_black": "frame_probe",
    "open_stream": "stream_planner",
    "plan_stream": "stream_planner",
    "positive_groups": "sampler",
    "unpack_soft_targets": "soft_targets",
    "write_phantom": "phantom",
    "read_unmasked": "unmasked",
}

__all__ = [
    "LAYOUTS",
    "PARTS",
    "PHASES",
    "UNITS",
    "Budget",
    "Finding",
    "FrameBatches",
    "FrameCache",
    "FrameDataset",
    "Layout",
    "MixedBatchSampler",
    "PhaseTable",
    "ReplayDataset",
    "Row",
    "SoftTargets",
    "Split",
    "StepData",
    "StepDataset",
    "Stream",
    "StreamPlan",
    "TwoViews",
    "UnmaskedFrames",
    "apply_split",
    "balanced_class_weights",
    "detect_layout",
    "draw_budget",
    "draw_exemplars",
    "drawn_order",
    "find_layout",
    "fingerprint",
    "folder_split",
    "hide_classes",
    "is_black",
    "kfold_by_video",
    "limit_knowledge",
    "load_budget",
    "load_split",
    "lost_classes",
    "natural_key",
    "open_stream",
    "phase_index",
    "plan_budget",
    "plan_stream",
    "positive_groups",
    "read_cholecseg8k",
    "read_dsad",
    "read_endoscapes",
    "read_exemplars",
    "read_frame",
    "read_label",
    "read_layout",
    "read_mask",
    "read_phase_file",
    "read_phases",
    "read_step",
    "read_unmasked",
    "resize_frame",
    "resize_mask",
    "row_id",
    "row_knowledge",
    "scan_layout",
    "split_by_video",
    "step_of_plan",
    "unpack_soft_targets",
    "weak_label_contradictions",
    "write_budget",
    "write_exemplars",
    "write_phantom",
    "write_split",
    "write_step",
]


def __getattr__(name: str) -> Any:
    if name not in _ON_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ON_USE[name]}"), name)
