"""Losses: pure modules, tensors in, scalar out; they know no engine, no config and no data set."""

from lap_monai.losses.byol import ByolLoss
from lap_monai.losses.class_contrastive import ClassContrastiveLoss, contrast_features, share_without_positive
from lap_monai.losses.contrast import positive_pairs
from lap_monai.losses.distillation import DistillationLoss
from lap_monai.losses.feature_memory import FeatureMemory, Remembered
from lap_monai.losses.focal import FocalLoss
from lap_monai.losses.multi_label import MultiLabelLoss
from lap_monai.losses.nt_xent import NTXentLoss
from lap_monai.losses.pair_weights import EqualLabels, ImageLabels, OverlappingLabels
from lap_monai.losses.partial_marginal import MarginalSegmentationLoss, fold_unknown
from lap_monai.losses.partial_masked import MaskedSigmoidLoss, binary_targets
from lap_monai.losses.ranks import RankBatch
from lap_monai.losses.segmentation import SegmentationLoss
from lap_monai.losses.squared_generalized_dice import SquaredGeneralizedDiceLoss
from lap_monai.losses.uncertainty_weighted import UncertaintyWeightedLoss

__all__ = [
    "ByolLoss",
    "ClassContrastiveLoss",
    "DistillationLoss",
    "EqualLabels",
    "FeatureMemory",
    "FocalLoss",
    "ImageLabels",
    "MarginalSegmentationLoss",
    "MaskedSigmoidLoss",
    "MultiLabelLoss",
    "NTXentLoss",
    "OverlappingLabels",
    "RankBatch",
    "Remembered",
    "SegmentationLoss",
    "SquaredGeneralizedDiceLoss",
    "UncertaintyWeightedLoss",
    "binary_targets",
    "contrast_features",
    "fold_unknown",
    "positive_pairs",
    "share_without_positive",
]
