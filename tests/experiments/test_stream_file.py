"""Stream files: what they declare, what they inherit, and one line about what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lap_monai.checks import UserError
from lap_monai.data.streams import PROTOCOLS
from lap_monai.experiments import load_stream
from lap_monai.label_space import get_label_space

ORGANS = get_label_space("dsad_11").classes[1:]

SOUND = {
    "name": "toy",
    "label_space": "dsad_11",
    "protocol": "one_organ_per_frame",
    "steps": [["liver", "colon"], ["ureter"]],
}


def write(folder: Path, content: object, name: str = "toy.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_what_is_not_said_has_its_default(tmp_path):
    stream = load_stream(write(tmp_path, SOUND))
    assert stream.groups == (("liver", "colon"), ("ureter",))
    assert (stream.patients, stream.assigned, stream.split) == ("disjoint", (), "folders")
    assert (stream.evaluate, stream.sources, stream.repeated) == ("test", ("organs",), "refuse")
    assert stream.steps[1].old == ("liver", "colon")


def test_everything_can_be_said(tmp_path):
    steps = [{"classes": ["liver"], "patients": ["01", "02"]}, {"classes": ["colon"], "patients": ["03"]}]
    more = {
        "steps": steps,
        "description": "two\n  lines",
        "patients": "disjoint",
        "split": [0.5, 0.25, 0.25],
        "evaluate": "val",
        "sources": ["organs", "multilabel"],
        "weak_labels": False,
        "repeated": "drop",
        "seed": 3,
    }
    stream = load_stream(write(tmp_path, SOUND | more))
    assert stream.assigned == (("01", "02"), ("03",))
    assert stream.split == (0.5, 0.25, 0.25)
    assert (stream.description, stream.weak_labels, stream.seed) == ("two lines", False, 3)
    assert (stream.evaluate, stream.sources, stream.repeated) == ("val", ("organs", "multilabel"), "drop")


def test_a_variant_says_what_it_changes(tmp_path):
    write(tmp_path, SOUND | {"seed": 5})
    middle = write(tmp_path, {"base": "toy.yaml", "name": "shared", "patients": "shared"}, "middle.yaml")
    last = write(tmp_path, {"base": "middle.yaml", "name": "last", "steps": [["spleen"]]}, "last.yaml")
    assert load_stream(middle).patients == "shared"
    stream = load_stream(last)
    assert (stream.name, stream.groups, stream.patients, stream.seed) == ("last", (("spleen",),), "shared", 5)


def test_split_files_lie_beside_the_stream(tmp_path):
    assert load_stream(write(tmp_path, SOUND | {"split": "own.json"})).split == str(tmp_path / "own.json")
    assert load_stream(write(tmp_path, SOUND | {"split": "dsad"})).split == "dsad"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocoll": 1}, "Did you mean 'protocol'"),
        ({"steps": None}, "steps must be a list"),
        ({"steps": []}, "steps must be a list"),
        ({"steps": [["liver"], []]}, "classes of step 1 must be a list of names"),
        ({"steps": [["liver"], ["livr"]]}, "Unknown class 'livr'. Did you mean 'liver'"),
        ({"steps": [["liver"], ["colon", "liver"]]}, "class 'liver' is named twice"),
        ({"steps": [["background"]]}, "'background' is the background"),
        ({"steps": [{"classes": ["liver"], "patient": ["01"]}]}, "step 0 has a key 'patient'"),
        ({"steps": [{"classes": ["liver"], "patients": [1]}]}, "YAML needs quotes around a name of digits"),
        (
            {"steps": [{"classes": ["liver"], "patients": ["01"]}, {"classes": ["colon"], "patients": ["01"]}]},
            "patient '01' is in steps 0 and 1",
        ),
        ({"steps": [{"classes": ["liver"], "patients": ["01"]}, ["colon"]]}, "name those of all steps, or of none"),
        ({"label_space": "dsad"}, "Did you mean 'dsad_11'"),
        ({"label_space": 11}, "label_space must be a word"),
        ({"protocol": "one_organ"}, "Did you mean 'one_organ_per_frame'"),
        ({"patients": True}, "patients must be a word, not True"),
        ({"split": 3}, "split must be a name"),
        ({"split": ["a"]}, "split must be a name"),
        ({"seed": True}, "seed must be a whole number"),
        ({"weak_labels": 1}, "weak_labels must be true or false"),
        ({"name": "a b"}, "becomes a folder"),
        ({"name": None}, "becomes a folder"),
        ({"base": 3}, "base must be the name"),
        ({"base": "toy.yaml"}, "base 'toy.yaml' leads back to this file"),
        ({"base": "none.yaml"}, "No stream"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file(tmp_path, change, message):
    with pytest.raises(UserError) as caught:
        load_stream(write(tmp_path, SOUND | change))
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert ("none.yaml" if change.get("base") == "none.yaml" else "toy.yaml") in text


@pytest.mark.parametrize("key", ["name", "label_space", "protocol", "steps"])
def test_what_must_be_said(tmp_path, key):
    content = {name: value for name, value in SOUND.items() if name != key}
    with pytest.raises(UserError, match=f"{key} must be given"):
        load_stream(write(tmp_path, content))
    if key == "name":  # a variant has a name of its own
        write(tmp_path, SOUND)
        with pytest.raises(UserError, match="name must be given"):
            load_stream(write(tmp_path, {"base": "toy.yaml"}, "variant.yaml"))


def test_a_key_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'seed' stands twice"):
        load_stream(write(tmp_path, yaml.safe_dump(SOUND) + "seed: 1\nseed: 2\n"))


@st.composite
def declarations(draw):
    """Sound stream files: any order of any organs in any steps."""
    order = draw(st.permutations(ORGANS))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), min_size=1)))
    return SOUND | {
        "steps": [list(order[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)],
        "protocol": draw(st.sampled_from(sorted(PROTOCOLS))),
        "patients": draw(st.sampled_from(["shared", "disjoint"])),
        "seed": draw(st.integers(0, 9)),
    }


quick = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(declarations())
def test_any_sound_file_gives_growing_steps(tmp_path, content):
    stream = load_stream(write(tmp_path, content))
    assert [list(step.new) for step in stream.steps] == content["steps"]
    for before, after in zip(stream.steps, stream.steps[1:], strict=False):
        assert after.old == before.seen
        assert after.channels[: before.num_channels] == before.channels


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(0, 1) | st.sampled_from(["liver", "", "val", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["classes", "patients", "x"]), inner),
    max_leaves=6,
)


@quick
@given(st.dictionaries(st.sampled_from([*SOUND, "base", "patients", "split", "seed", "sources", "x"]), VALUES))
def test_any_other_file_is_refused_in_one_line(tmp_path, change):
    refusal = ""
    try:
        load_stream(write(tmp_path, SOUND | change))
    except UserError as error:  # and nothing else
        refusal = str(error)
    assert "\n" not in refusal


# --- the files of this repository ----------------------------------------------------------------------------------

STREAMS = sorted((Path(__file__).resolve().parents[2] / "configs" / "streams").glob("*.yaml"))


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_our_streams_are_sound_and_called_as_their_files(path):
    stream = load_stream(path)
    assert stream.name == path.stem
    assert stream.description
    sizes = [len(group) for group in stream.groups]
    family, _, variant = path.stem.partition("_")
    numbers = variant.partition("_")[0]
    if family == "dsad" or (family == "phantom" and numbers[0].isdigit()):
        first, more = map(int, numbers.split("-"))
        assert sizes == [first, *[more] * (len(sizes) - 1)]
        assert sum(sizes) == len(ORGANS)
        alphabetical = [name for group in stream.groups for name in group] == list(ORGANS)
        assert alphabetical == ("order" not in path.stem)
        assert stream.patients == ("shared" if path.stem.endswith("_shared") else "disjoint")


def test_the_streams_that_results_name_are_there():
    names = {path.stem for path in STREAMS}
    sizes = ("6-5", "7-2", "5-2", "6-1", "1-1")
    assert {f"dsad_{size}{end}" for size in sizes for end in ("", "_shared", "_order1", "_order2")} <= names
    assert {"endoscapes_2-2-2", "endoscapes_1x6", "phantom_6-5", "phantom_1-1", "phantom_demo"} <= names
