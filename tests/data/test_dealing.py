import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lap_monai.checks import UserError
from lap_monai.data.dealing import deal_patients

NAMES = "abcdef"
GROUPS = st.sampled_from([["ab", "cd", "ef"], ["abc", "d", "ef"], list(NAMES), ["abcdef"], ["fa", "c"]])
SHOWS = st.dictionaries(st.integers(1, 40).map(str), st.frozensets(st.sampled_from(NAMES)), max_size=25)


@given(SHOWS, GROUPS, st.integers(0, 5))
def test_steps_are_disjoint_and_show_their_classes(shows, groups, seed):
    try:
        dealt = deal_patients(shows, groups, seed)
    except UserError:
        return
    everybody = [patient for step in dealt for patient in step]
    assert len(everybody) == len(set(everybody))
    for step, group in zip(dealt, groups, strict=True):
        assert set(group) <= {name for patient in step for name in shows[patient]}
        assert all(shows[patient] & set(group) for patient in step)  # nobody serves where there is nothing to show
    useful = {patient for patient, shown in shows.items() if shown & set("".join(groups))}
    assert useful == set(everybody)
    assert deal_patients(dict(reversed(shows.items())), groups, seed) == dealt


@given(SHOWS, GROUPS, st.integers(0, 5))
def test_it_refuses_only_what_is_short(shows, groups, seed):
    """With as many patients showing all as there are classes nothing can be short."""
    plenty = shows | {f"9{i}": frozenset(NAMES) for i in range(6)}
    assert all(deal_patients(plenty, groups, seed))


@given(
    st.lists(st.frozensets(st.sampled_from("abcde")), max_size=7),
    st.lists(st.sampled_from("abcde"), min_size=1, unique=True),
)
def test_one_class_a_step_is_refused_only_where_it_cannot_be_done(shown, classes):
    shows = {str(patient): classes_of for patient, classes_of in enumerate(shown)}
    possible = any(
        all(name in shows[patient] for name, patient in zip(classes, chosen, strict=True))
        for chosen in itertools.permutations(shows, len(classes))
    )
    try:
        assert all(deal_patients(shows, classes, 0))
        assert possible
    except UserError:
        assert not possible


def test_patients_are_shared_out_by_the_number_of_classes():
    shows = {str(i): set("abcd") for i in range(20)}
    assert [len(step) for step in deal_patients(shows, ["abc", "d"], 0)] == [15, 5]
    assert deal_patients(shows, ["abc", "d"], 0) != deal_patients(shows, ["abc", "d"], 1)


def test_the_only_patients_of_a_class_are_kept_for_it():
    shows = {**{str(i): set("a") for i in range(5)}, "9": set("ab")}
    assert "9" in deal_patients(shows, ["a", "b"], 0)[1]


@pytest.mark.parametrize(
    ("shows", "message"),
    [
        ({"1": {"a"}}, r"step 1: no training patient is left to show 'b', which nobody shows"),
        ({"1": {"a", "b"}}, r"no training patient is left to show '.', which 1 shows; write `patients: shared`"),
    ],
)
def test_too_few_patients_are_named(shows, message):
    with pytest.raises(UserError, match=message):
        deal_patients(shows, ["a", "b"], 0)
