"""Transforms that MONAI lacks."""

from lap_monai.transforms.batch_augmentation import augment_images, augment_labels
from lap_monai.transforms.rand_surgical_augment import RandSurgicalAugmentd
from lap_monai.transforms.surgical_augmentation import SurgicalAugmentation

__all__ = ["RandSurgicalAugmentd", "SurgicalAugmentation", "augment_images", "augment_labels"]
