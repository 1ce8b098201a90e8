from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import CONFIGS, CommandLine, tree

from lap_monai.checks import UserError
from lap_monai.commands.run import parse_override
from lap_monai.files import read_json
from lap_monai.handlers import EpochSeed


def test_a_training_an_evaluation_and_an_inference_leave_what_they_promise(cli: CommandLine) -> None:
    outcome = cli.train("epochs=1", "seed=3")
    assert outcome.status == 0
    assert outcome.out.splitlines()[-1] == f"results: {cli.out}"
    assert {"run.json", "history.json", "models/model.pt", "models/checkpoint.pt", "config_tiny.json"} <= tree(cli.out)
    assert read_json(cli.out / "run.json")["settings"]["seed"] == 3

    assert cli.evaluate().status == 0
    assert {"results.json", "results.csv", "frames.csv", "report.html", "config_evaluate.json"} <= tree(cli.out)

    assert cli.infer(cli.data, cli.out / "models", "pattern=video01/**/*_endo.png").status == 0
    frames = {path.stem for path in cli.data.glob("video01/**/*_endo.png")}
    assert {Path(name).stem.removesuffix("_seg") for name in tree(cli.folder / "labels")} == frames


def test_the_config_in_the_run_folder_repeats_the_run(cli: CommandLine) -> None:
    assert cli.train("epochs=1", "optimizer#weight_decay=0.5").status == 0
    kept = cli.out / "config_tiny.json"
    assert json.loads(kept.read_text())["optimizer"]["weight_decay"] == 0.5
    # A model-zoo bundle keeps its metadata beside the configs.
    (cli.folder / "again").mkdir()
    (cli.folder / "again" / "train.json").write_bytes(kept.read_bytes())
    (cli.folder / "again" / "metadata.json").write_bytes((CONFIGS / "metadata.json").read_bytes())
    out = cli.folder / "again" / "out"
    assert cli("run", cli.folder / "again" / "train.json", "--out", out).status == 0
    first, second = (read_json(folder / "history.json")[0] for folder in (cli.out, out))
    assert first["loss"] == second["loss"]


@pytest.mark.parametrize("order", ["files first", "options first", "mixed"])
def test_files_overrides_and_options_stand_in_any_order(cli: CommandLine, order: str) -> None:
    files = [CONFIGS / "train.json", CONFIGS / "phantom.json", cli.overlay]
    options = [["--data", cli.data], ["--out", cli.out]]
    overrides = [f"cache_dir={cli.cache}", "epochs=1"]
    words = {
        "files first": [*files, *options[0], *options[1], *overrides],
        "options first": [*options[0], *options[1], *files, *overrides],
        "mixed": [files[0], *options[0], overrides[0], files[1], *options[1], files[2], overrides[1]],
    }
    assert cli("run", *words[order]).status == 0
    assert [row["epoch"] for row in read_json(cli.out / "history.json")] == [1]


def test_an_override_says_more_than_an_option(cli: CommandLine) -> None:
    """So the weights of one run can be evaluated into the folder of another."""
    assert cli.train("epochs=1", f"ckpt_dir={cli.folder / 'weights'}").status == 0
    assert (cli.folder / "weights" / "model.pt").is_file()
    assert not (cli.out / "models").exists()


def test_an_option_of_monai_bundle_is_translated(cli: CommandLine) -> None:
    assert cli.train("--epochs", 3).error.endswith("write it as epochs=VALUE.")


def test_without_a_config_it_says_what_to_give(cli: CommandLine) -> None:
    assert "name the bundle's configs/train.json" in cli("run", "epochs=3").error


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a=3", 3),
        ("a=0.5", 0.5),
        ("a=true", True),
        ("a=True", True),
        ("a=null", None),
        ("a=None", None),
        ("a=[1, 2]", [1, 2]),
        ('a={"b": 1}', {"b": 1}),
        ("a=text", "text"),
        ("a='3'", "3"),
        ("a=$1 + 1", "$1 + 1"),
        ("a=@b", "@b"),
        ("a=x=y", "x=y"),
        ("a=", ""),
    ],
)
def test_the_value_of_an_override(word: str, value: object) -> None:
    key, found = parse_override(word)
    assert key == "a"
    assert found == value
    assert type(found) is type(value)


def test_an_override_without_a_key_is_refused() -> None:
    with pytest.raises(UserError, match=r"'=3' has no key; write KEY=VALUE"):
        parse_override("=3")


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler with a bug."""

    def stumble(self: EpochSeed, engine: object) -> None:
        raise RuntimeError("a bug\nof two lines")

    monkeypatch.setattr(EpochSeed, "__call__", stumble)


@pytest.mark.usefixtures("bug")
def test_an_unforeseen_error_is_one_line_and_its_traceback_is_kept(cli: CommandLine) -> None:
    outcome = cli.train()
    assert outcome.status == 1
    (line,) = outcome.err.splitlines()
    kept = cli.out / "traceback.txt"
    assert line == f"error: RuntimeError: a bug of two lines (not foreseen; the traceback is in {str(kept)!r})"
    assert "in stumble" in kept.read_text()
    assert read_json(cli.out / "run.json")["status"] == "failed"


@pytest.mark.usefixtures("bug")
def test_debug_shows_the_traceback(cli: CommandLine) -> None:
    with pytest.raises(UserError) as caught:
        cli.train("--debug")
    assert any("a bug" in str(link) for link in (caught.value.__cause__, caught.value.__cause__.__cause__))
