"""Which runs a method's way through a stream has, and what each of them may read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stream_steps import make_files

from lap_monai.checks import UserError
from lap_monai.experiments.config_merge import merge_configs
from lap_monai.experiments.step import EVALUATE
from lap_monai.experiments.stream_cells import StreamCell, build_stream_cells, used_inputs
from lap_monai.experiments.stream_step import TRAIN_SETTINGS
from lap_monai.experiments.stream_study import StreamStudy, load_stream_study

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "bundles" / "dresden_incremental" / "configs"


@pytest.fixture(scope="module")
def study() -> StreamStudy:
    return load_stream_study(REPOSITORY / "configs" / "studies" / "methods.yaml")


@pytest.fixture
def build(study: StreamStudy, tmp_path: Path) -> Any:
    def build(*names: str, run_dir: Path | None = None, seeds: tuple[int, ...] = (0,), **more: Any) -> list[StreamCell]:
        return build_stream_cells(study, make_files(run_dir or tmp_path, **more), study.choose(names), seeds)

    return build


def inputs(cell: StreamCell, number: int) -> dict[str, Any]:
    return dict(cell.training(number).settings[TRAIN_SETTINGS])


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for entry in value.values():
            yield from strings(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from strings(entry)
    elif isinstance(value, str):
        yield value


def test_a_method_declares_what_outlives_a_step_by_referring_to_it() -> None:
    def used(*names: str) -> set[str]:
        return used_inputs(merge_configs([CONFIGS / f"{name}.json" for name in ("train", *names)]))

    assert used("finetune") == used("mib") == {"previous_checkpoint"}
    assert used("ddcl") == {"previous_checkpoint", "synthetic_sets", "previous_memory"}
    assert used("ddcl", "ddcl_no_replay") == used("ddcl") - {"synthetic_sets"}
    assert used("ddcl", "ddcl_expert") == used("ddcl") | {"expert_checkpoint"}
    assert used("ddcl", "ddcl_all_teachers") == used("ddcl") | {"earlier_checkpoints"}
    assert used("exemplar") == {"previous_checkpoint", "previous_exemplars"}


def test_step_0_is_one_run_that_methods_of_equal_configs_share(build: Any) -> None:
    finetune, mib, ddcl, ssul = build("finetune", "mib", "ddcl", "ssul")
    base = finetune.training(0)
    assert base == mib.training(0) == ddcl.training(0)
    assert base.fingerprint != ssul.training(0).fingerprint
    assert finetune.training(1).folder != mib.training(1).folder
    assert inputs(mib, 1)["previous_checkpoint"] == str(base.folder / "models" / "model.pt")
    assert inputs(mib, 2)["previous_checkpoint"] == str(mib.training(1).folder / "models" / "model.pt")


def test_a_method_whose_step_0_has_another_head_is_refused(study: StreamStudy, tmp_path: Path) -> None:
    files = make_files(tmp_path)
    for name, base in (("ssul", ()), ("mib", study.methods["ssul"].base)):
        method = replace(study.methods[name], base=base)
        with pytest.raises(UserError, match=rf"method '{name}' has the head .* name the overlays of step 0"):
            build_stream_cells(study, files, [method], [0])


def test_methods_are_given_what_they_declare_and_no_more(build: Any) -> None:
    methods = ("finetune", "ddcl", "ddcl_expert", "exemplar", "ddcl_all_teachers")
    cells = {cell.method.name: cell for cell in build(*methods)}
    offered = {"synthetic_sets", "expert_checkpoint", "earlier_checkpoints", "previous_memory", "previous_exemplars"}
    assert not offered & set(inputs(cells["finetune"], 2))
    assert offered & set(inputs(cells["ddcl"], 1)) == {"synthetic_sets"}
    assert offered & set(inputs(cells["ddcl"], 2)) == {"synthetic_sets", "previous_memory"}
    assert offered & set(inputs(cells["ddcl_expert"], 2)) == {"synthetic_sets", "expert_checkpoint", "previous_memory"}
    assert [len(inputs(cells["ddcl"], number)["synthetic_sets"]) for number in (1, 2)] == [1, 2]
    assert offered & set(inputs(cells["exemplar"], 2)) == {"previous_exemplars"}
    assert len(inputs(cells["ddcl_all_teachers"], 2)["earlier_checkpoints"]) == 2


def test_generators_and_experts_are_shared_and_judged_before_their_images_are_used(build: Any) -> None:
    first, second = build("ddcl_expert", "ddcl_expert_on_real")
    names = [(step.number, step.name, step.folder.name.split("_")[0]) for step in first.steps]
    before = names[: names.index((1, "train", "step"))]
    assert before == [
        (0, "train", "base"), (0, EVALUATE, "base"),
        (0, "train", "generator"), (0, "generate", "synthetic"), (0, "audit", "synthetic"), (1, "train", "expert"),
    ]  # fmt: skip
    assert len(names) == len(set(names)), "the expert of step 1 also judges its images, and is trained once"
    shared = [step for step in first.steps if first.folder not in step.folder.parents]
    assert shared == [step for step in second.steps if second.folder not in step.folder.parents]
    assert not [step for step in first.steps if step.name == "generate" and step.number == 2], "nobody replays it"


def test_no_run_is_told_where_the_frames_of_an_earlier_step_are(build: Any, study: StreamStudy, tmp_path: Path) -> None:
    files = make_files(tmp_path)
    for cell in build(*(name for name in study.methods if name != "joint")):
        for step in cell.steps:
            told = " ".join(strings(step.settings))
            for earlier in range(step.number):
                if step.name == "exemplars" or f"generator_{earlier}" in step.folder.name:
                    continue
                assert str(files.step_file(earlier)) not in told, (cell.name, step.name)
                assert str(tmp_path / "frames" / f"step_{earlier}") not in told, "nor of their cache"
            assert "/data/" not in told
    for number, step_data in enumerate(files.steps):
        named = set(strings([step_data.train, step_data.val]))
        others = set(strings([other.train for other in files.steps[:number]]))
        assert not {text for text in named & others if text.endswith(".png")}


def test_joint_training_is_one_run_over_all_frames(build: Any, tmp_path: Path) -> None:
    (joint,) = build("joint")
    assert [(step.number, step.name) for step in joint.steps] == [(2, "train"), (2, EVALUATE)]
    assert inputs(joint, 2)["step_datalist"] == str(tmp_path / "steps" / "joint.json")
    assert "previous_checkpoint" not in inputs(joint, 2)


def test_fingerprints_tell_outcomes_apart_and_nothing_else(build: Any, tmp_path: Path) -> None:
    def prints(**changes: Any) -> list[str]:
        return [step.fingerprint for cell in build("ddcl", "exemplar", **changes) for step in cell.steps]

    here = prints()
    assert here == prints(run_dir=tmp_path / "elsewhere")
    assert not set(here) & set(prints(seeds=(1,)))
    assert not set(here) & set(prints(frames=3))


def test_what_a_run_is_told_fits_its_bundle(build: Any) -> None:
    for cell in build("ddcl", "exemplar", "ssul", "joint"):
        for step in cell.steps:
            if step.folder == cell.folder or cell.folder in step.folder.parents or step.name != EVALUATE:
                own = {step.folder / name: content for name, content in step.settings.items()}
                assert own.keys() <= set(step.configs)
                json.dumps(step.merged())


def test_a_cell_can_stop_after_a_step(build: Any) -> None:
    (ddcl,) = build("ddcl")
    assert {step.number for step in ddcl.until(0).steps} == {0}
    assert "audit" in [step.name for step in ddcl.until(0).steps], "the set is made while the frames are there"
    assert ddcl.until(2) == ddcl
