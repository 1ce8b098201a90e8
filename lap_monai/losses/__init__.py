"""Losses: pure modules, tensors in, scalar out; they know no engine, no config and no data set."""

from lap_monai.losses.byol import ByolLoss
from lap_monai.losses.class_contrastive import ClassContrastiveLoss, contrast_features, share_without_positive
from lap_monai.losses.class_memory import ClassMemory, RememberedClasses
from lap_monai.losses.contrast import positive_pairs
from lap_monai.losses.cross_image_contrast import CrossImageContrastLoss, memorable_features
from lap_monai.losses.distillation import DistillationLoss
from lap_monai.losses.entropy_medians import EntropyMedians, prediction_entropy
from lap_monai.losses.feature_distillation import FeatureDistillationLoss
from lap_monai.losses.feature_memory import FeatureMemory, Remembered
from lap_monai.losses.focal import FocalLoss
from lap_monai.losses.folding import fold_into_background, teacher_channels
from lap_monai.losses.heads import HEADS, require_head
from lap_monai.losses.labelled_images import LabelledImagesLoss, NoLoss
from lap_monai.losses.lwf import OldClassDistillationLoss
from lap_monai.losses.multi_label import MultiLabelLoss
from lap_monai.losses.nt_xent import NTXentLoss
from lap_monai.losses.pair_weights import EqualLabels, ImageLabels, OverlappingLabels
from lap_monai.losses.partial_marginal import MarginalSegmentationLoss, fold_unknown
from lap_monai.losses.partial_masked import MaskedSigmoidLoss, binary_targets
from lap_monai.losses.plop import PseudoLabelLoss, confident_labels
from lap_monai.losses.pod import LocalPodLoss
from lap_monai.losses.pseudo_labels import class_probabilities, complete_labels
from lap_monai.losses.ranks import RankBatch
from lap_monai.losses.replay_distillation import (
    ReplayDistillationLoss,
    SigmoidReplayDistillationLoss,
    labelled_first,
    merge_by_odds,
)
from lap_monai.losses.segmentation import SegmentationLoss
from lap_monai.losses.squared_generalized_dice import SquaredGeneralizedDiceLoss
from lap_monai.losses.unbiased_distillation import UnbiasedDistillationLoss
from lap_monai.losses.uncertainty_weighted import UncertaintyWeightedLoss

__all__ = [
    "HEADS",
    "ByolLoss",
    "ClassContrastiveLoss",
    "ClassMemory",
    "CrossImageContrastLoss",
    "DistillationLoss",
    "EntropyMedians",
    "EqualLabels",
    "FeatureDistillationLoss",
    "FeatureMemory",
    "FocalLoss",
    "ImageLabels",
    "LabelledImagesLoss",
    "LocalPodLoss",
    "MarginalSegmentationLoss",
    "MaskedSigmoidLoss",
    "MultiLabelLoss",
    "NTXentLoss",
    "NoLoss",
    "OldClassDistillationLoss",
    "OverlappingLabels",
    "PseudoLabelLoss",
    "RankBatch",
    "Remembered",
    "RememberedClasses",
    "ReplayDistillationLoss",
    "SegmentationLoss",
    "SigmoidReplayDistillationLoss",
    "SquaredGeneralizedDiceLoss",
    "UnbiasedDistillationLoss",
    "UncertaintyWeightedLoss",
    "binary_targets",
    "class_probabilities",
    "complete_labels",
    "confident_labels",
    "contrast_features",
    "fold_into_background",
    "fold_unknown",
    "labelled_first",
    "memorable_features",
    "merge_by_odds",
    "positive_pairs",
    "prediction_entropy",
    "require_head",
    "share_without_positive",
    "teacher_channels",
]
