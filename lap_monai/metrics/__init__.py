"""Scores of segmentations: pure functions of class ids and confusion matrices."""

from lap_monai.metrics.bootstrap import MIN_VIDEOS, BootstrapIntervals, bootstrap_iou
from lap_monai.metrics.confusion import confusion_matrix
from lap_monai.metrics.frame_scores import FrameScores
from lap_monai.metrics.incremental import (
    backward_transfer,
    forgetting_from_best,
    forgetting_from_first,
    group_means,
    harmonic_mean,
    plasticity,
)
from lap_monai.metrics.incremental_summary import incremental_summary, score_matrix, step_summary
from lap_monai.metrics.overlap import (
    AbsentPolicy,
    class_dice,
    class_iou,
    dice,
    iou,
    iou_per_image,
    iou_per_video,
    miou,
    pool_by_video,
)
from lap_monai.metrics.paired import PairedDifference, holm, paired_difference, patient_interval, sign_flip_p
from lap_monai.metrics.partial_counts import known_counts
from lap_monai.metrics.summary import frame_miou, summarise
from lap_monai.metrics.surface_dice import surface_dice

__all__ = [
    "MIN_VIDEOS",
    "AbsentPolicy",
    "BootstrapIntervals",
    "FrameScores",
    "PairedDifference",
    "backward_transfer",
    "bootstrap_iou",
    "class_dice",
    "class_iou",
    "confusion_matrix",
    "dice",
    "forgetting_from_best",
    "forgetting_from_first",
    "frame_miou",
    "group_means",
    "harmonic_mean",
    "holm",
    "incremental_summary",
    "iou",
    "iou_per_image",
    "iou_per_video",
    "known_counts",
    "miou",
    "paired_difference",
    "patient_interval",
    "plasticity",
    "pool_by_video",
    "score_matrix",
    "sign_flip_p",
    "step_summary",
    "summarise",
    "surface_dice",
]
