"""Synthetic frames that stand in for those a hospital may not keep: drawn, kept with their origin, judged."""

from lap_monai.replay.synthetic_set import SyntheticImage, SyntheticSet, image_seed

__all__ = [
    "SyntheticImage",
    "SyntheticSet",
    "image_seed",
]
