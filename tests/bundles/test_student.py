"""The overlay that distils a trained network into a small one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from lap_monai.experiments import find_user_error, merge_configs
from lap_monai.files import read_json

Run = Callable[..., ConfigWorkflow]
STUDENT = [4, 4, 8, 8, 8, 4]


@pytest.fixture(scope="module")
def settings(tiny: dict[str, Any], trained: Path) -> dict[str, Any]:
    """A student of the trained network, smaller still."""
    small = {"teacher_def#features": tiny["backbone_def#features"], "backbone_def#features": STUDENT}
    return tiny | small | {"teacher_checkpoint": str(trained / "models" / "model.pt"), "epochs": 1}


@pytest.mark.slow
def test_learns_from_its_teacher_and_loads_where_only_monai_is(
    run: Run, settings: dict[str, Any], bundle: Path, tmp_path: Path
) -> None:
    teacher = Path(settings["teacher_checkpoint"])
    before = teacher.read_bytes()
    run(["train", "phantom", "student"], tmp_path, **settings)
    (epoch,) = read_json(tmp_path / "eval" / "history.json")
    assert {"seg", "distillation"} <= set(epoch)
    assert not {"dcl", "cls"} & set(epoch)
    assert epoch["distillation"] > 0
    assert teacher.read_bytes() == before
    recorded = read_json(tmp_path / "eval" / "run.json")
    assert "distillation_weight" in recorded.get("settings", recorded)

    parser = ConfigParser(merge_configs([bundle / "configs" / f"inference{name}.json" for name in ("", "_student")]))
    parser["network_def"]["features"] = STUDENT
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(tmp_path / "models" / "model.pt", weights_only=True)["model"])

    # Evaluation needs no teacher.
    evaluated = run(["train", "phantom", "student", "evaluate"], tmp_path, **settings | {"teacher_checkpoint": None})
    assert evaluated.parser.get_parsed_content("evaluated_part")
    assert (tmp_path / "eval" / "results.json").is_file()


def test_asks_for_a_teacher(run: Run, settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 — MONAI wraps it
        run(["train", "phantom", "student"], tmp_path, **settings | {"teacher_checkpoint": None})
    assert "set teacher_checkpoint" in str(find_user_error(caught.value))


def test_the_student_is_what_its_inference_builds_and_a_fraction_of_its_teacher(bundle: Path) -> None:
    configs = bundle / "configs"
    trained = ConfigParser(merge_configs([configs / "train.json", configs / "student.json"]))
    deployed = ConfigParser(merge_configs([configs / "inference.json", configs / "inference_student.json"]))
    student, network = trained.get_parsed_content("backbone_def"), deployed.get_parsed_content("network_def")
    assert repr(student) == repr(network)
    count = [sum(weights.numel() for weights in net.parameters()) for net in (student, _teacher(trained))]
    assert count[0] * 10 < count[1]


def _teacher(parser: ConfigParser) -> torch.nn.Module:
    return parser.get_parsed_content("teacher_def")
