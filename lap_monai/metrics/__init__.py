"""Scores of segmentations: pure functions of class ids and confusion matrices."""

from lap_monai.metrics.bootstrap import MIN_VIDEOS, BootstrapIntervals, bootstrap_iou
from lap_monai.metrics.confusion import confusion_matrix
from lap_monai.metrics.frame_scores import FrameScores
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
    "bootstrap_iou",
    "class_dice",
    "class_iou",
    "confusion_matrix",
    "dice",
    "frame_miou",
    "holm",
    "iou",
    "iou_per_image",
    "iou_per_video",
    "known_counts",
    "miou",
    "paired_difference",
    "patient_interval",
    "pool_by_video",
    "sign_flip_p",
    "summarise",
    "surface_dice",
]
