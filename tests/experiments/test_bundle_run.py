from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from command_line import undone
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow
from monai.handlers import StatsHandler

from lap_monai.checks import UserError
from lap_monai.experiments import find_user_error, root_cause, run_bundle


@pytest.fixture
def bundle(tmp_path: Path):
    """A function that runs a bundle of one config."""
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "metadata.json").write_text('{"version": "1"}')

    def run(config: dict[str, Any], overrides: dict[str, Any] | None = None, copy: Path | None = None):
        (configs / "train.json").write_text(json.dumps({"imports": ["$import test_bundle_run as module"], **config}))
        with undone():
            return run_bundle([configs / "train.json"], overrides, copy)

    return run


EVENTS: list[str] = []


def note(name: str, result: Any = None) -> Any:
    """Called by the configs below."""
    EVENTS.append(name)
    return result


def fail(error: BaseException) -> None:
    raise error


def fail_below(error: BaseException) -> None:
    try:
        raise error
    except Exception as inner:
        raise RuntimeError("a library's words") from inner


def engine_that(action: Any) -> Engine:
    engine = Engine(lambda engine, batch: action())
    StatsHandler(output_transform=lambda output: 0.0).attach(engine)
    engine.state.max_epochs = 1
    return engine


@pytest.fixture(autouse=True)
def no_events():
    EVENTS.clear()


def test_it_initialises_builds_writes_runs_and_finalises(bundle, tmp_path: Path) -> None:
    copy = tmp_path / "out" / "config.json"
    workflow = bundle(
        {
            "step": 1,
            "part": "$module.note('build', @step)",
            "initialize": ["$module.note('initialize')"],
            "run": [f"$module.note('run after ' + str(__import__('os').path.exists({str(copy)!r})))", "$@part"],
            "finalize": ["$module.note('finalize')"],
        },
        {"step": 2},
        copy,
    )
    assert EVENTS == ["initialize", "build", "run after True", "finalize"]
    assert isinstance(workflow, ConfigWorkflow)
    assert workflow.parser.get_parsed_content("part") == 2
    kept = json.loads(copy.read_text())
    assert kept["step"] == 2
    assert kept["part"] == "$module.note('build', @step)"


def test_a_part_that_runs_refer_to_is_built_once(bundle) -> None:
    bundle({"part": "$module.note('build', [])", "run": ["$@part.append(1)", "$@part.append(2)"]})
    assert EVENTS == ["build"]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 4, "kernel_size": 1, "groups": 2},
            "at 'part' (torch.nn.Conv2d): ValueError: in_channels must be divisible by groups",
        ),
        ("$[1][5]", "at '$[1][5]': IndexError: list index out of range"),
        ("$module.nothing()", "AttributeError"),
        ("$1 +", "SyntaxError"),
        ("$@other", "other"),
        ("$@missing + 1", "missing"),
        ("$module.fail(UserError('x'))", "NameError"),
    ],
)
def test_what_cannot_be_built_is_said_with_its_place_before_anything_runs(
    bundle, tmp_path: Path, part: Any, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        bundle({"part": part, "run": ["$module.note('run')", "$@part"]}, copy=tmp_path / "config.json")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert EVENTS == []
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize("phase", ["initialize", "part", "run"])
@pytest.mark.parametrize("call", ["fail", "fail_below"])
def test_a_user_error_comes_out_as_itself_from_any_depth(bundle, phase: str, call: str) -> None:
    config: dict[str, Any] = {"initialize": [], "part": 0, "run": ["$@part"]}
    config["imports"] = ["$import test_bundle_run as module", "$import lap_monai.checks as checks"]
    expression = f"$module.{call}(checks.UserError('a.png is damaged; copy it again.'))"
    config[phase] = expression if phase == "part" else [expression]
    with pytest.raises(UserError, match=r"^a\.png is damaged; copy it again\.$"):
        bundle(config)


def test_a_missing_file_while_running_is_the_users(bundle) -> None:
    with pytest.raises(UserError, match=r"No such file.*'/nowhere/a\.png'"):
        bundle({"run": ["$open('/nowhere/a.png')"]})


def test_any_other_error_while_running_is_none_of_the_users(bundle) -> None:
    with pytest.raises(RuntimeError) as caught:
        bundle({"run": ["$module.fail(ZeroDivisionError('bug'))"]})
    assert not isinstance(caught.value, UserError)
    assert isinstance(root_cause(caught.value), ZeroDivisionError)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, "three"])
def test_an_engine_needs_a_whole_number_of_epochs(bundle, epochs: object) -> None:
    config = {
        "epochs": epochs,
        "trainer": {
            "_target_": "monai.engines.SupervisedTrainer",
            "device": "cpu",
            "max_epochs": "@epochs",
            "train_data_loader": [],
            "network": {"_target_": "torch.nn.ReLU"},
            "optimizer": None,
            "loss_function": None,
        },
        "run": ["$@trainer.run()"],
    }
    with pytest.raises(UserError, match=r"'trainer' gets .* epochs; give a whole number of at least 1"):
        bundle(config)


def test_a_user_error_in_an_engine_is_not_logged_with_a_traceback(bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Ignite and MONAI's StatsHandler would; other errors still are."""
    config = {
        "imports": ["$import test_bundle_run as module", "$import lap_monai.checks as checks"],
        "engine": "$module.engine_that(lambda: module.fail(@error))",
        "error": "$checks.UserError('a.png is damaged')",
        "run": ["$@engine.run([1])"],
    }
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        with pytest.raises(UserError, match="damaged"):
            bundle(config)
        assert "damaged" not in capsys.readouterr().err
        with pytest.raises(RuntimeError):
            bundle(config | {"error": "$ZeroDivisionError('a bug')"})
        assert "a bug" in capsys.readouterr().err
    finally:
        logging.getLogger().removeHandler(handler)
    assert not handler.filters


def test_a_workers_error_is_one_line(bundle) -> None:
    """A loader's worker sends its traceback as the text of the error."""
    text = (
        "Caught UserError in DataLoader worker process 0.\nTraceback:\n  File x\nlap_monai.checks.UserError: a.png, cut"
    )
    config = {"imports": ["$import test_bundle_run as module", "$import lap_monai.checks as checks"]}
    with pytest.raises(UserError, match=r"^a\.png, cut$"):
        bundle(config | {"run": [f"$module.fail(checks.UserError({text!r}))"]})


def test_chains_of_causes() -> None:
    user, bug = UserError("user"), ZeroDivisionError("bug")
    wrapper = RuntimeError("Failed to instantiate component 'a.B' with keywords: c")
    wrapper.__cause__ = user
    assert find_user_error(wrapper) is user
    assert root_cause(wrapper) is user
    assert find_user_error(bug) is None
    assert root_cause(bug) is bug
    bug.__context__ = bug  # a loop must not hang
    assert find_user_error(bug) is None
