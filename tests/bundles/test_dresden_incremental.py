"""The bundle `dresden_incremental`, run in this process through two steps of a tiny phantom stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gloo_ranks
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.networks.nets import BasicUNet

from lap_monai.data import StepData, read_exemplars, write_step
from lap_monai.experiments import find_user_error
from lap_monai.files import read_json
from lap_monai.label_space import get_label_space
from lap_monai.replay import SyntheticSet
from lap_monai.task_stream import Knowledge, TaskStep

Run = Callable[..., ConfigWorkflow]

CONFIGS = Path(__file__).parents[2] / "bundles" / "dresden_incremental" / "configs"
SPACE = get_label_space("endoscapes_7")
FEATURES = [4, 4, 8, 8, 8, 4]
SIZE = (32, 48)
OLD, NEW = ("Tool", "Gallbladder"), ("Cystic Duct",)

TINY: dict[str, Any] = {
    "architecture#features": FEATURES,
    "frame_size": list(SIZE),
    "window": [32, 32],
    "overlap": 0,
    "epochs": 1,
    "steps_per_epoch": 2,
    "real_per_batch": 2,
    "num_workers": 0,
    "device": "$torch.device('cpu')",
}
#: Of ddcl.json.
SMALL = {"embedding_dim": 8, "memory_size": 20, "anchors": 32}


def draw_rows(folder: Path, video: str, drawn: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    """Write frames of coloured discs, one a class, and return rows in which only some classes are drawn."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, video)))
    rows = []
    for frame in range(count):
        mask = np.zeros(SIZE, np.uint8)
        picture = rng.integers(60, 90, (*SIZE, 3), dtype=np.uint8)
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        for place, name in enumerate((*OLD, *NEW)):
            centre = rng.integers(8, 24), 8 + 16 * place
            disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 40
            mask[disc] = SPACE.classes.index(name)
            picture[disc] = SPACE.colours[SPACE.classes.index(name)]
        image, label = folder / f"{video}_{frame}.png", folder / f"{video}_{frame}_mask.png"
        Image.fromarray(picture).save(image)
        Image.fromarray(mask).save(label)
        known = [Knowledge.MASK if name in drawn else Knowledge.UNKNOWN for name in SPACE.classes]
        row = {"image": str(image), "label": str(label), "video": video, "clip": video, "frame": frame, "phase": None}
        rows.append({**row, "knowledge": [int(value) for value in known]})
    return rows


def audited_set(folder: Path, share: float = 0.0) -> Path:
    """A synthetic set of noise, audited."""
    generator = {"sha256": "0123456789abcdef", "frame_size": list(SIZE)}
    synthetic = SyntheticSet.create(folder, generator, {"name": "noise"}, seed=0)
    synthetic.extend(np.random.default_rng(0).integers(0, 255, (4, *SIZE, 3), dtype=np.uint8))
    synthetic.set_audit({"memorisation": {"share": share}})
    synthetic.save()
    return folder


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a stream's two steps, its joint set and a synthetic set."""
    root = tmp_path_factory.mktemp("stream")
    test = draw_rows(root / "frames", "t", (*OLD, *NEW), 3)
    first, second = draw_rows(root / "frames", "a", OLD, 4), draw_rows(root / "frames", "b", NEW, 4)
    val = draw_rows(root / "frames", "v", NEW, 2)
    steps = {
        "step0": StepData("discs", 0, SPACE, TaskStep(SPACE.classes, (), OLD), first, [], test),
        "step1": StepData("discs", 1, SPACE, TaskStep(SPACE.classes, OLD, NEW), second, val, test),
        "joint": StepData("discs", 1, SPACE, TaskStep(SPACE.classes, OLD, NEW), first + second, val, test),
    }
    for name, step in steps.items():
        write_step(root / f"{name}.json", step)
    audited_set(root / "synthetic")
    return root


def make(configs: list[str], root: Path, workflow_type: str = "train", **overrides: Any) -> ConfigWorkflow:
    places = {"bundle_root": str(root), "ckpt_dir": str(root / "models"), "output_dir": str(root / "eval")}
    return ConfigWorkflow(
        config_file=[str(CONFIGS / f"{name}.json") for name in configs],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type=workflow_type,
        **places | overrides,
    )


@pytest.fixture(scope="module")
def run(stream: Path) -> Run:
    """A function from names of configs, a run folder and overrides to a workflow that has run to its end."""

    def run(configs: list[str], root: Path, step: str = "step1", **overrides: Any) -> ConfigWorkflow:
        given = TINY | {"cache_dir": str(stream / "cache"), "step_datalist": str(stream / f"{step}.json")} | overrides
        workflow = make(configs, root, **given)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        return workflow

    return run


@pytest.fixture(scope="module")
def first(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`model.pt` of step 0, by head, and of step 1's expert."""
    root = tmp_path_factory.mktemp("first")
    run(["train"], root / "softmax", "step0")
    run(["train", "sigmoid"], root / "sigmoid", "step0")
    run(["train", "expert"], root / "expert")
    run(["train", "sigmoid", "expert"], root / "sigmoid_expert")
    return {path.name: str(path / "models" / "model.pt") for path in root.iterdir()}


def history(root: Path) -> dict[str, Any]:
    return read_json(root / "eval" / "history.json")[-1]


def weights(path: Path | str) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def user_error(error: pytest.ExceptionInfo) -> str:
    return str(find_user_error(error.value))


#: Overlays after train.json → the terms that they train with, beside the supervised one.
METHODS: dict[tuple[str, ...], set[str]] = {
    ("finetune",): set(),
    ("finetune", "unlabelled_background"): set(),
    ("lwf",): {"kd"},
    ("ilt",): {"kd", "feature_kd"},
    ("mib",): {"kd"},
    ("plop",): {"pod", "logit_pod"},
    ("frozen",): set(),
    ("ssul",): set(),
    ("ewf",): set(),
    ("exemplar",): set(),
    ("ddcl",): {"kd", "contrast"},
    ("sigmoid", "ddcl", "ddcl_sigmoid"): {"kd", "contrast"},
    ("ddcl", "ddcl_no_replay"): {"kd", "contrast"},
    ("ddcl", "ddcl_no_contrast"): {"kd"},
    ("ddcl", "ddcl_expert"): {"kd", "contrast"},
    ("sigmoid", "ddcl", "ddcl_sigmoid", "ddcl_expert"): {"kd", "contrast"},
    ("ddcl", "ddcl_no_memory"): {"kd", "contrast"},
    ("ddcl", "ddcl_hard"): {"kd", "contrast"},
    ("ddcl", "ddcl_all_teachers"): {"kd", "contrast"},
}


def given(overlays: tuple[str, ...], stream: Path, first: dict[str, str]) -> dict[str, Any]:
    """What a method is told of the step before."""
    head = "sigmoid" if {"sigmoid", "ssul"} & set(overlays) else "softmax"
    told: dict[str, Any] = {"previous_checkpoint": first[head]}
    if "ddcl" in overlays:
        told["synthetic_sets"] = [str(stream / "synthetic")]
        told |= {key: value for key, value in SMALL.items() if f"ddcl_no_{key.split('_')[0]}" not in overlays}
    if "ddcl_no_contrast" in overlays:
        told = {key: value for key, value in told.items() if key not in SMALL}
    if "ddcl_expert" in overlays:
        told["expert_checkpoint"] = first["sigmoid_expert" if head == "sigmoid" else "expert"]
    if "ddcl_all_teachers" in overlays:
        told["earlier_checkpoints"] = [first[head]]
    return told


@pytest.mark.parametrize("overlays", METHODS, ids="+".join)
def test_a_method_learns_a_step_and_leaves_a_plain_network_of_all_classes(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path, overlays: tuple[str, ...]
) -> None:
    told = given(overlays, stream, first)
    run(["train", *overlays], tmp_path, **told)
    row = history(tmp_path)
    assert {"kd", "feature_kd", "pod", "logit_pod", "contrast"} & set(row) == METHODS[overlays]
    assert row["supervised"] > 0
    assert all(np.isfinite(value) for value in row.values() if isinstance(value, float))
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=4, features=FEATURES)
    network.load_state_dict(weights(tmp_path / "models" / "model.pt"))  # strict
    channels = torch.load(tmp_path / "models" / "model.pt", weights_only=True)["identity"]["channels"]
    assert channels == ["Background", *OLD, *NEW]


def test_the_steps_results_say_of_each_class_how_well_it_is_known(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path
) -> None:
    run(["train", "mib"], tmp_path, **given(("mib",), stream, first))
    run(["train", "mib", "evaluate"], tmp_path, **given(("mib",), stream, first))
    (row,) = read_json(tmp_path / "eval" / "results.json")["rows"]
    expected = {"stream": "discs", "step": 1, "method": "mib", "seed": 0, "part": "test", "n_frames": 3}
    assert {key: row[key] for key in expected} == expected
    assert list(row["iou"]) == ["Background", *OLD, *NEW]
    scores = {name: score for name, score in row["iou"].items() if name != "Background"}
    assert row["miou"] == pytest.approx(np.mean(list(scores.values())))
    assert row["miou_old"] == pytest.approx(np.mean([scores[name] for name in OLD]))
    assert row["miou_new"] == pytest.approx(scores["Cystic Duct"])
    assert {path.name for path in (tmp_path / "eval").iterdir()} >= {"results.csv", "frames.csv"}


def test_joint_training_sees_all_frames_and_starts_anew(run: Run, tmp_path: Path) -> None:
    workflow = run(["train", "joint"], tmp_path, "joint")
    assert len(workflow.train_dataset_data) == 8
    assert weights(tmp_path / "models" / "model.pt")["final_conv.bias"].shape == (4,)


@pytest.mark.parametrize("steps_per_epoch", [3, None])
def test_joint_training_takes_as_many_iterations_as_the_steps_together(
    stream: Path, tmp_path: Path, steps_per_epoch: int | None
) -> None:
    def iterations(configs: list[str], step: str) -> int:
        given = {"step_datalist": str(stream / f"{step}.json"), "steps_per_epoch": steps_per_epoch}
        workflow = make(configs, tmp_path, **TINY | {"cache_dir": str(stream / "cache")} | given)
        workflow.initialize()
        return len(workflow.parser.get_parsed_content("train#sampler"))

    of_steps = [iterations(["train", "finetune"], step) for step in ("step0", "step1")]
    assert iterations(["train", "joint"], "joint") == sum(of_steps)


def test_inference_takes_the_network_of_a_step(stream: Path, first: dict[str, str], tmp_path: Path) -> None:
    from PIL import Image

    options = {"network_def#features": FEATURES, "frame_size": list(SIZE), "window": [32, 32], "device": "cpu"}
    places = {"ckpt_dir": str(Path(first["softmax"]).parent), "dataset_dir": str(stream / "frames")}
    workflow = make(["inference"], tmp_path, "infer", num_classes=3, **options | places)
    workflow.initialize()
    workflow.run()
    written = sorted((tmp_path / "eval").rglob("*_seg.png"))
    assert len(written) == 13
    assert set(np.unique(np.asarray(Image.open(written[0])))) <= {0, 1, 2}


def test_a_frozen_network_keeps_everything_but_the_new_rows(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path
) -> None:
    run(["train", "frozen"], tmp_path, **given(("frozen",), stream, first) | {"optimizer#weight_decay": 0.5})
    before, after = weights(first["softmax"]), weights(tmp_path / "models" / "model.pt")
    for name, value in before.items():
        kept = after[name][1:3] if name.startswith("final_conv") else after[name]
        assert torch.equal(value[1:] if name.startswith("final_conv") else value, kept), name
    assert not torch.equal(after["final_conv.weight"][3], before["final_conv.weight"][0])


def test_fused_weights_lie_between_two_steps_and_resuming_does_not_fuse_twice(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path
) -> None:
    told = given(("ewf",), stream, first)
    run(["train", "ewf"], tmp_path, **told)
    models = tmp_path / "models"
    before, trained, fused = (weights(path) for path in (first["softmax"], models / "unfused.pt", models / "model.pt"))
    share = (1 / 3) ** 0.5
    torch.testing.assert_close(
        fused["final_conv.bias"][:3], share * trained["final_conv.bias"][:3] + (1 - share) * before["final_conv.bias"]
    )
    assert torch.equal(fused["final_conv.bias"][3], trained["final_conv.bias"][3])
    run(["train", "ewf"], tmp_path, **told | {"resume": True})
    again = weights(models / "model.pt")
    assert all(torch.equal(value, again[name]) for name, value in fused.items())


def test_exemplars_are_handed_on_and_trained_with(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path
) -> None:
    run(["train", "exemplar"], tmp_path / "0", "step0", exemplars=3)
    left = tmp_path / "0" / "models" / "exemplars.json"
    assert len(read_exemplars(left)) == 3
    told = given(("exemplar",), stream, first) | {"previous_exemplars": str(left), "exemplars": 4}
    workflow = run(["train", "exemplar"], tmp_path / "1", **told)
    assert len(workflow.train_dataset_data) == 4 + 3
    kept = read_exemplars(tmp_path / "1" / "models" / "exemplars.json")
    assert {row["video"] for row in kept} == {"a", "b"}
    assert len(kept) == 4


def test_the_memory_goes_on_from_step_to_step_and_through_an_interruption(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path
) -> None:
    told = given(("ddcl",), stream, first)
    run(["train", "ddcl"], tmp_path / "whole", **told | {"epochs": 2})
    run(["train", "ddcl"], tmp_path / "parts", **told | {"epochs": 2, "train#trainer#max_epochs": 1})
    run(["train", "ddcl"], tmp_path / "parts", **told | {"epochs": 2, "resume": True})
    states = [
        torch.load(tmp_path / name / "models" / "checkpoint.pt", weights_only=True) for name in ("whole", "parts")
    ]
    for key in ("model", "heads", "memory"):
        assert states[0][key].keys() == states[1][key].keys()
        assert all(torch.equal(value, states[1][key][name]) for name, value in states[0][key].items()), key
    left = torch.load(tmp_path / "whole" / "models" / "memory.pt", weights_only=True)["memory"]
    assert set(left["classes"].tolist()) >= {3}
    next_run = {"previous_memory": str(tmp_path / "whole" / "models" / "memory.pt"), "memory_size": 10_000}
    run(["train", "ddcl"], tmp_path / "next", **told | next_run)
    later = torch.load(tmp_path / "next" / "models" / "memory.pt", weights_only=True)["memory"]
    assert all((later["features"] == feature).all(1).any() for feature in left["features"])


def test_cached_answers_are_those_of_the_networks(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path
) -> None:
    """Of frames that are neither scaled, cropped nor mirrored, up to the rounding to bytes."""
    told = given(("ddcl", "ddcl_expert"), stream, first) | {"window": list(SIZE), "learning_rate": 0.05, "epochs": 2}
    told |= {f"train#preprocessing#{name}": 0 for name in ("scale", "flip", "blur_prob")}
    # New rows, a projection and its anchors are drawn at random, otherwise where networks are built in another order.
    told |= {"init": "background", "contrast_weight": 0, "memory_size": 0, "network_def#embedding_dim": None}
    run(["train", "ddcl", "ddcl_expert"], tmp_path / "cached", **told)
    run(["train", "ddcl", "ddcl_expert"], tmp_path / "asked", **told | {"train#dataset#soft_targets": None})
    cached, asked = history(tmp_path / "cached"), history(tmp_path / "asked")
    assert asked["kd"] > 0.01
    assert cached["kd"] == pytest.approx(asked["kd"], rel=0.05)


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_step_with_old_classes_needs_its_previous_network(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as error:
        run(["train"], tmp_path)
    assert "old classes (Tool, Gallbladder) but no previous_checkpoint" in user_error(error)


def test_checkpoints_of_another_stream_head_or_step_are_refused(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path
) -> None:
    other = json.loads((stream / "step1.json").read_text()) | {"stream": "another"}
    (tmp_path / "another.json").write_text(json.dumps(other))
    told = {"previous_checkpoint": first["softmax"]}
    for changed, said in (
        ({"step_datalist": str(tmp_path / "another.json")}, "trained with stream 'discs'"),
        ({"previous_checkpoint": first["sigmoid"]}, "trained with head 'sigmoid'"),
        ({"previous_checkpoint": first["expert"]}, "trained with channels ['Background', 'Cystic Duct']"),
    ):
        for method in ("finetune", "mib"):
            with pytest.raises(RuntimeError) as error:
                run(["train", method], tmp_path, **told | changed)
            assert said in user_error(error)


def test_synthetic_sets_must_be_there_and_have_passed_their_audit(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path
) -> None:
    told = given(("ddcl",), stream, first)
    copying = audited_set(tmp_path / "copying", share=0.5)
    unaudited = audited_set(tmp_path / "unaudited")
    synthetic = SyntheticSet.open(unaudited)
    synthetic.set_audit(None)
    synthetic.save()
    for folders, said in (
        ([], "give synthetic_sets"),
        ([str(tmp_path / "nowhere")], "There is no synthetic set"),
        ([str(unaudited)], "was not audited"),
        ([str(copying)], "50% of its images are copies"),
    ):
        with pytest.raises(RuntimeError) as error:
            run(["train", "ddcl"], tmp_path, **told | {"synthetic_sets": folders})
        assert said in user_error(error)
    asked = {"synthetic_sets": [str(unaudited), str(copying)], "accept_unaudited": True}
    run(["train", "ddcl"], tmp_path / "asked", **told | asked)


def test_every_earlier_network_is_needed_by_all_teachers(
    run: Run, stream: Path, first: dict[str, str], tmp_path: Path
) -> None:
    told = given(("ddcl", "ddcl_all_teachers"), stream, first)
    for paths, said in (([], "No earlier_checkpoints"), ([first["expert"]], "this step's old ones are")):
        with pytest.raises(RuntimeError) as error:
            run(["train", "ddcl", "ddcl_all_teachers"], tmp_path, **told | {"earlier_checkpoints": paths})
        assert said in user_error(error)


@pytest.mark.slow
def test_two_processes_learn_a_step_as_one(stream: Path, first: dict[str, str], tmp_path: Path) -> None:
    told = TINY | given(("ddcl", "ddcl_no_contrast"), stream, first) | {"steps_per_epoch": 1, "device": "cpu"}
    told |= {"cache_dir": str(stream / "cache"), "step_datalist": str(stream / "step1.json")}
    for world, name in ((1, "one"), (2, "two")):
        overrides = {key: value for key, value in told.items() if not (world > 1 and key == "device")}
        configs = ["train", "ddcl", "ddcl_no_contrast"]
        gloo_ranks.run("dresden_incremental", configs, tmp_path / name, world, **overrides)
    one, two = (history(tmp_path / name) for name in ("one", "two"))
    for key in ("supervised", "kd", "loss"):
        assert one[key] == pytest.approx(two[key], rel=1e-3), key
    assert {key for key in one if key.startswith("val_")} == {key for key in two if key.startswith("val_")}
