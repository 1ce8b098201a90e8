"""What the classes of our label spaces are called in SNOMED CT, for DICOM segmentations.

Codes and meanings are those of DICOM's context groups as pydicom ships them (`pydicom.sr.codedict`; CID 7150 for the
categories, mostly CID 7151 and 7166 for the types), with two exceptions that are members of HL7 FHIR R4 value sets:
122865005 (body-site) and 37759000 (device-type). SNOMED CT is © SNOMED International; DICOM and FHIR use these codes by
agreement with it.

Where neither source has a code for just what a class means, the type is the nearest *broader* concept and a modifier of
our own scheme, `99LAPMONAI`, narrows it. A reader that knows SNOMED CT only is thus told less, never something wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lap_monai.checks import UserError, did_you_mean

#: Coding scheme designator of our modifiers; "99" marks a private scheme (DICOM PS3.16, section 8.2).
PRIVATE_SCHEME = "99LAPMONAI"


class Coded(NamedTuple):
    """A code, its scheme (`"SCT"`, or `PRIVATE_SCHEME`) and what it means in words."""

    value: str
    scheme: str
    meaning: str


class Term(NamedTuple):
    """What a segment shows: DICOM's property category, property type, and what narrows a type that is too broad."""

    category: Coded
    type: Coded
    modifier: Coded | None = None


#: Names of classes that are no segment: DICOM's label maps keep the value 0 for (DCM, 125040, "Background").
BACKGROUNDS = frozenset({"background", "black background"})

_ANATOMY = Coded("91723000", "SCT", "Anatomical Structure")
_TISSUE = Coded("85756007", "SCT", "Tissue")
_SUBSTANCE = Coded("91720002", "SCT", "Body Substance")
_OBJECT = Coded("260787004", "SCT", "Physical object")

# class, in lower case: category, SNOMED CT code and meaning, and what narrows it
_ROWS: dict[str, tuple[Coded, str, str] | tuple[Coded, str, str, str]] = {
    # CholecSeg8k (13, and the 8 of Zhang et al.)
    "abdominal wall": (_ANATOMY, "818981001", "Abdomen", "Wall"),
    "liver": (_ANATOMY, "10200004", "Liver"),
    "gastrointestinal tract": (_ANATOMY, "122865005", "Gastrointestinal tract structure"),
    "fat": (_TISSUE, "55603005", "Fat"),
    "grasper": (_OBJECT, "37759000", "Surgical instrument, device", "Grasper"),
    "connective tissue": (_TISSUE, "21793004", "Connective tissue"),
    "blood": (_SUBSTANCE, "87612001", "Blood"),
    "cystic duct": (_ANATOMY, "28273000", "Bile duct", "Cystic duct"),
    "l-hook electrocautery": (_OBJECT, "37759000", "Surgical instrument, device", "L-hook electrocautery"),
    "gallbladder": (_ANATOMY, "28231008", "Gallbladder"),
    "hepatic vein": (_ANATOMY, "8993003", "Hepatic vein"),
    "liver ligament": (_ANATOMY, "52082005", "Ligament", "Of the liver"),
    # EndoViT's grouping of it
    "misc": (_TISSUE, "85756007", "Tissue", "Connective tissue, blood, duct, vein or ligament, not told apart"),
    "instruments": (_OBJECT, "37759000", "Surgical instrument, device"),
    # Endoscapes-Seg50
    "cystic plate": (_TISSUE, "21793004", "Connective tissue", "Cystic plate"),
    "calot triangle": (_ANATOMY, "303270005", "Liver and biliary structure", "Hepatocystic triangle"),
    "cystic artery": (_ANATOMY, "51114001", "Artery", "Cystic artery"),
    "tool": (_OBJECT, "37759000", "Surgical instrument, device"),
    # Dresden Surgical Anatomy Dataset
    "colon": (_ANATOMY, "71854001", "Colon"),
    "inferior mesenteric artery": (_ANATOMY, "33795007", "Inferior mesenteric artery"),
    "intestinal veins": (_ANATOMY, "128583004", "Mesenteric vein", "Intestinal veins, not further specified"),
    "pancreas": (_ANATOMY, "15776009", "Pancreas"),
    "small intestine": (_ANATOMY, "30315005", "Small intestine"),
    "spleen": (_ANATOMY, "78961009", "Spleen"),
    "stomach": (_ANATOMY, "69695003", "Stomach"),
    "ureter": (_ANATOMY, "87953007", "Ureter"),
    "vesicular glands": (_ANATOMY, "64739004", "Seminal Vesicle"),
}


def term_of(name: str) -> Term:
    """Return the codes of the class called `name`; case and underscores do not matter.

    Raises:
        UserError: if the class has none.
    """
    key = _key(name)
    if key not in _ROWS:
        raise UserError(
            f"Class {name!r} has no DICOM code, so it cannot go into a DICOM segmentation; "
            f"add it to lap_monai/inference/terminology.py.{did_you_mean(key, _ROWS)}"
        )
    category, value, meaning, *narrower = _ROWS[key]
    modifier = (
        Coded(key.replace(" ", "_").replace("-", "_").upper()[:16], PRIVATE_SCHEME, narrower[0]) if narrower else None
    )
    return Term(category, Coded(value, "SCT", meaning), modifier)


def segment_numbers(classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return each class's DICOM segment number, `uint8 (num_classes,)`.

    A background is 0, which label maps keep for it. The number of any other class is its index; in a space whose first
    class is no background, its index plus one.

    Raises:
        UserError: if there are more classes than 8 bits number.
    """
    if len(classes) > 255:
        raise UserError(f"{len(classes)} classes do not fit into a DICOM label map of 8 bits; merge some.")
    shift = 0 if is_background(classes[0]) else 1
    return np.array([0 if is_background(name) else i + shift for i, name in enumerate(classes)], dtype=np.uint8)


def is_background(name: str) -> bool:
    """Whether a class of this name is no structure, but what lies beside and around all of them."""
    return _key(name) in BACKGROUNDS


def _key(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
