"""The codes of our classes against the dictionary that pydicom ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lap_monai.checks import UserError
from lap_monai.inference.terminology import PRIVATE_SCHEME, Coded, is_background, segment_numbers, term_of
from lap_monai.label_space import LABEL_SPACES, LabelSpace

codedict = pytest.importorskip("pydicom.sr._concepts_dict")

#: Codes that DICOM's dictionary lacks, and the value set of HL7 FHIR R4 that holds them.
FROM_FHIR = {
    "122865005": ("Gastrointestinal tract structure", "http://hl7.org/fhir/R4/valueset-body-site.html"),
    "37759000": ("Surgical instrument, device", "http://hl7.org/fhir/R4/valueset-device-type.html"),
}

CLASSES = sorted({name for space in LABEL_SPACES.values() for name in space.classes})
STRUCTURES = [name for name in CLASSES if not is_background(name)]


def meanings(code: Coded) -> set[str]:
    """What DICOM's dictionary calls a code; several synonyms may."""
    by_keyword = codedict.concepts[code.scheme].values()
    return {meaning for entry in by_keyword for value, (meaning, _) in entry.items() if value == code.value}


def context_groups(code: Coded) -> set[int]:
    by_keyword = codedict.concepts[code.scheme].values()
    return {cid for entry in by_keyword for value, (_, cids) in entry.items() if value == code.value for cid in cids}


@pytest.mark.parametrize("name", STRUCTURES)
def test_codes_mean_what_the_dictionary_says(name: str) -> None:
    term = term_of(name)
    assert 7150 in context_groups(term.category), "categories come from DICOM's CID 7150"
    for code in (term.category, term.type):
        if code.value in FROM_FHIR:
            assert code.meaning == FROM_FHIR[code.value][0]
        else:
            assert code.meaning in meanings(code)


@pytest.mark.parametrize("name", STRUCTURES)
def test_modifiers_are_private_and_within_the_value_representation(name: str) -> None:
    modifier = term_of(name).modifier
    if modifier is not None:
        assert modifier.scheme == PRIVATE_SCHEME
        assert len(modifier.value) <= 16, "SH"
        assert len(modifier.meaning) <= 64, "LO"


@pytest.mark.parametrize("space", LABEL_SPACES.values(), ids=list(LABEL_SPACES))
def test_no_two_classes_of_a_space_mean_the_same(space: LabelSpace) -> None:
    terms = [term_of(name) for name in space.classes if not is_background(name)]
    assert len(set(terms)) == len(terms)


def test_segment_numbers_are_the_class_indices_beside_a_background() -> None:
    spaces = [space for space in LABEL_SPACES.values() if is_background(space.classes[0])]
    assert len(spaces) >= 4
    for space in spaces:
        assert segment_numbers(space.classes).tolist() == list(range(space.num_classes))


def test_without_a_background_zero_stays_free() -> None:
    numbers = segment_numbers(LABEL_SPACES["dsad_11"].classes[1:])
    assert numbers.min() == 1
    assert len(np.unique(numbers)) == 11


def test_a_class_without_a_code_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"'Gall bladder' has no DICOM code.*gallbladder"):
        term_of("Gall bladder")


def test_more_classes_than_a_byte_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="300 classes"):
        segment_numbers([f"class {i}" for i in range(300)])


def test_the_documented_table_is_the_one_in_use(repository: Path) -> None:
    lines = (repository / "docs/medical_formats.md").read_text(encoding="utf-8").splitlines()
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines if "|" in line
    }
    for name in STRUCTURES:
        term = term_of(name)
        told = [term.category.meaning, f"{term.type.value} {term.type.meaning}"]
        assert rows[name.replace("_", " ").lower()] == [*told, term.modifier.meaning if term.modifier else ""]
