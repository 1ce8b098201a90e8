"""Label spaces: which raw mask value means which class.

A comparison is only fair inside one label space, so results, splits' statistics and checkpoints carry its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lap_monai.checks import require_choice
from lap_monai.keys import IGNORE_INDEX

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class LabelSpace:
    """Named classes of one data layout and the raw mask values that stand for them.

    Args:
        name: what results, configs and checkpoints call this space.
        layout: the data layout whose raw mask values are meant, for example `"cholecseg8k"`.
        classes: class names; the position is the class index.
        colours: one RGB triple (0 to 255) per class, for pictures.
        values: raw mask value → class index. Several raw values may share an index (a merge).
        ignored: raw values that the layout defines but that are no class here: they become `IGNORE_INDEX`, and unlike
            any other unlisted value they are no sign of damaged data.
        origin: where the classes come from.
    """

    name: str
    layout: str
    classes: tuple[str, ...]
    colours: tuple[RGB, ...]
    values: Mapping[int, int] = field(hash=False)
    ignored: tuple[int, ...]
    origin: str

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @cached_property
    def lut(self) -> NDArray[np.uint8]:
        """Class index of each of the 256 raw values, `uint8[256]`; `IGNORE_INDEX` for all that are no class."""
        lut = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        lut[list(self.values.keys())] = list(self.values.values())
        lut.flags.writeable = False
        return lut

    def encode(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn raw mask values (any shape, `uint8`) into class indices, `IGNORE_INDEX` where a pixel is no class."""
        return self.lut[mask]

    def count_pixels(self, histograms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sum pixel counts by raw value, `(..., 256)`, into pixel counts by class, `(..., num_classes)`."""
        by_class = np.zeros((256, self.num_classes), dtype=np.int64)
        by_class[list(self.values.keys()), list(self.values.values())] = 1
        return np.asarray(histograms, dtype=np.int64) @ by_class

    def unknown_values(self, histogram: NDArray[np.int64]) -> tuple[int, ...]:
        """Raw values that occur in a histogram `(256,)` although the layout does not define them."""
        present = np.flatnonzero(histogram).tolist()
        return tuple(value for value in present if value not in self.values and value not in self.ignored)

    def merge(self, name: str, groups: Mapping[str, Sequence[str]], origin: str) -> LabelSpace:
        """Make a coarser space of the same layout.

        Args:
            name: the new space's name.
            groups: new class → the classes of this space that it unites, in the order of the new indices. The first of
                them gives the colour. A class in no group becomes *ignore*, not background.
            origin: where the grouping comes from.

        Raises:
            UserError: if a group names a class that this space lacks.
        """
        index = {
            require_choice(old, self.classes, f"class of {self.name}"): new
            for new, olds in enumerate(groups.values())
            for old in olds
        }
        names = [self.classes[i] for i in range(self.num_classes)]
        values = {value: index[names[i]] for value, i in self.values.items() if names[i] in index}
        return LabelSpace(
            name=name,
            layout=self.layout,
            classes=tuple(groups),
            colours=tuple(self.colours[self.classes.index(olds[0])] for olds in groups.values()),
            values=values,
            ignored=tuple(sorted(set(self.ignored) | (set(self.values) - set(values)))),
            origin=origin,
        )

    def of_class_ids(self) -> LabelSpace:
        """Return the same classes for masks that hold class indices, such as a network's label maps."""
        return replace(self, values={i: i for i in range(self.num_classes)}, ignored=(IGNORE_INDEX,))


def _space(
    name: str, layout: str, rows: Sequence[tuple[str, int, RGB]], ignored: tuple[int, ...], origin: str
) -> LabelSpace:
    """Build a space from (class, raw value, colour) rows in index order."""
    return LabelSpace(
        name=name,
        layout=layout,
        classes=tuple(row[0] for row in rows),
        colours=tuple(row[2] for row in rows),
        values={row[1]: index for index, row in enumerate(rows)},
        ignored=ignored,
        origin=origin,
    )


# Raw values are the decimal grey values of `_endo_watershed_mask.png`; 255 is the 1-pixel white border of every frame
# and 0 unlabelled specks: neither is background.
_CHOLECSEG8K_13 = _space(
    "cholecseg8k_13",
    "cholecseg8k",
    [
        ("Black Background", 50, (127, 127, 127)),
        ("Abdominal Wall", 11, (210, 140, 140)),
        ("Liver", 21, (255, 114, 114)),
        ("Gastrointestinal Tract", 13, (231, 70, 156)),
        ("Fat", 12, (186, 183, 75)),
        ("Grasper", 31, (170, 255, 0)),
        ("Connective Tissue", 23, (255, 85, 0)),
        ("Blood", 24, (255, 0, 0)),
        ("Cystic Duct", 25, (255, 255, 0)),
        ("L-hook Electrocautery", 32, (169, 255, 184)),
        ("Gallbladder", 22, (255, 160, 165)),
        ("Hepatic Vein", 33, (0, 50, 128)),
        ("Liver Ligament", 5, (111, 74, 0)),
    ],
    ignored=(0, 255),
    origin="Hong et al. 2020, arXiv 2012.12453: all classes of CholecSeg8k",
)

# Deviation: the text of Zhang et al. calls it 8 classes and lists 10; the tables report these 8.
_CHOLECSEG8K_ZHANG8 = _CHOLECSEG8K_13.merge(
    "cholecseg8k_zhang8",
    {
        name: (name,)
        for name in (
            "Black Background",
            "Abdominal Wall",
            "Liver",
            "Fat",
            "Grasper",
            "Connective Tissue",
            "L-hook Electrocautery",
            "Gallbladder",
        )
    },
    origin="Zhang et al. 2024, doi 10.1049/htl2.12069, Table 1; the other 5 classes are ignored",
)

_CHOLECSEG8K_ENDOVIT8 = _CHOLECSEG8K_13.merge(
    "cholecseg8k_endovit8",
    {
        "Black Background": ("Black Background",),
        "Abdominal Wall": ("Abdominal Wall",),
        "Liver": ("Liver",),
        "Gastrointestinal Tract": ("Gastrointestinal Tract",),
        "Fat": ("Fat",),
        "Gallbladder": ("Gallbladder",),
        "Misc": ("Connective Tissue", "Blood", "Cystic Duct", "Hepatic Vein", "Liver Ligament"),
        "Instruments": ("Grasper", "L-hook Electrocautery"),
    },
    origin=(
        "Batić et al. 2024 (EndoViT), doi 10.1007/s11548-024-03091-5; the grouping as in GitHub DominikBatic/EndoViT, "
        "datasets/CholecSeg8k/utils/CholecSeg8k_color_dict_combined_classes.py, commit 73b4bf2"
    ),
)

# The publication names no colours; these are ours.
_ENDOSCAPES_7 = _space(
    "endoscapes_7",
    "endoscapes",
    [
        ("Background", 0, (127, 127, 127)),
        ("Cystic Plate", 1, (255, 85, 0)),
        ("Calot Triangle", 2, (0, 170, 255)),
        ("Cystic Artery", 3, (220, 20, 60)),
        ("Cystic Duct", 4, (255, 255, 0)),
        ("Gallbladder", 5, (255, 160, 165)),
        ("Tool", 6, (170, 255, 0)),
    ],
    ignored=(255,),
    origin="Endoscapes2023 (CAMMA), arXiv 2312.12429: Endoscapes-Seg50",
)

# Classes are called as the folders are. Raw values are ours: a mask file of the data set is 0 or 255 and means the one
# structure that its place names (`lap_monai.data.dsad`); 255 stands for pixels that two structures claim.
# The publication names no colours; these are ours.
_DSAD_11 = _space(
    "dsad_11",
    "dsad",
    [
        ("background", 0, (127, 127, 127)),
        ("abdominal_wall", 1, (210, 140, 140)),
        ("colon", 2, (231, 70, 156)),
        ("inferior_mesenteric_artery", 3, (220, 20, 60)),
        ("intestinal_veins", 4, (0, 50, 128)),
        ("liver", 5, (255, 114, 114)),
        ("pancreas", 6, (255, 200, 60)),
        ("small_intestine", 7, (255, 85, 0)),
        ("spleen", 8, (130, 40, 160)),
        ("stomach", 9, (0, 170, 255)),
        ("ureter", 10, (255, 255, 0)),
        ("vesicular_glands", 11, (170, 255, 0)),
    ],
    ignored=(255,),
    origin="Carstens et al. 2023, Dresden Surgical Anatomy Dataset, doi 10.1038/s41597-022-01719-2",
)

#: Every label space by its name.
LABEL_SPACES: dict[str, LabelSpace] = {
    space.name: space
    for space in (_CHOLECSEG8K_13, _CHOLECSEG8K_ZHANG8, _CHOLECSEG8K_ENDOVIT8, _ENDOSCAPES_7, _DSAD_11)
}


def get_label_space(name: str) -> LabelSpace:
    """Return the label space called `name`.

    Raises:
        UserError: if there is none, with the nearest name.
    """
    return LABEL_SPACES[require_choice(name, LABEL_SPACES, "label space")]
