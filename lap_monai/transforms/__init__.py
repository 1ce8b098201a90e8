"""Dictionary transforms that MONAI lacks."""

from lap_monai.transforms.rand_surgical_augment import RandSurgicalAugmentd
from lap_monai.transforms.surgical_augmentation import SurgicalAugmentation

__all__ = ["RandSurgicalAugmentd", "SurgicalAugmentation"]
