from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lap_monai.__main__ import main
from lap_monai.commands.table import add_arguments
from lap_monai.data import write_phantom
from lap_monai.files import read_json

MakeTable = Callable[..., Path]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four operations of four frames."""
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", videos=4, frames=4, size=(96, 64))


@pytest.fixture
def make_table(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeTable:
    """Write a table of networks of a few thousand weights."""
    monkeypatch.setenv("LAP_MONAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def make(settings: dict[str, Any] | None = None, **changes: Any) -> Path:
        content = {
            "name": "tiny",
            "bundle": str(repository / "bundles" / "cholecseg8k_contrastive"),
            "configs": ["train.json", "phantom.json", "demo.json"],
            "settings": {
                "split_def": "$data.split_by_video(@datalist, (0.5, 0.25, 0.25), seed=0)",
                "frame_size": [32, 48],
                "window": [32, 32],
                "backbone_def#features": [4, 8, 8, 16, 16, 4],
                "epochs": 1,
                "steps_per_epoch": 2,
                "val_interval": 1,
                "masked_per_batch": 2,
                "label_only_per_batch": 2,
                "device": "cpu",
                **(settings or {}),
            },
            "rows": {"supervised": {"label": "Random", "overlays": ["supervised.json"]}},
            "budgets": [0.5],
            **changes,
        }
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return make


def command(table: Path, data: Path, out: Path, *more: str) -> list[str]:
    return ["table", str(table), "--data", str(data), "--out", str(out), *more]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_table_whose_runner_is_killed_goes_on_and_loses_an_epoch_at_most(
    make_table: MakeTable, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three cells: one is done, one is killed in the midst of its training, one cannot be trained at all."""
    out, cells = tmp_path / "run", tmp_path / "run" / "cells"
    pretrain = {
        "name": "pretrain",
        "overlays": ["pretrain.json"],
        "per": ["seed"],
        "settings": {"label_only_per_batch": 4},
    }
    finetune = {
        "name": "finetune",
        "overlays": ["finetune.json"],
        "uses": {"encoder_checkpoint": "pretrain/models/model.pt"},
    }
    rows = {
        "frozen": {"stages": [pretrain, finetune]},
        "dcl": {"overlays": ["dcl.json"], "settings": {"epochs": 60}},
        "impossible": {"settings": {"label_only_per_batch": 3, "train#sampler#rank": 5}},
    }
    table = make_table(rows=rows, budgets=[0.5])
    words = [sys.executable, "-m", "lap_monai", *command(table, phantom, out)]
    runner = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    record = cells / "dcl" / "0.5_0_0" / "run.json"
    epoch = _wait_for(lambda: read_json(record)["epoch"] >= 5 and read_json(record)["epoch"], runner)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    assert epoch < 60, "the training ended before it could be killed"
    finished = cells / "frozen" / "0.5_0_0"
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert before

    assert main(command(table, phantom, out)) == 1, "going on has to be asked for"
    assert "add --resume" in capsys.readouterr().err
    assert main(command(table, phantom, out, "--resume")) == 1
    said = capsys.readouterr()
    assert "3 cells, 1 done, 2 to run" in said.out
    assert "1 cells failed, first impossible/0.5_0_0" in said.err

    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before, "a finished cell was touched"
    log = (cells / "dcl" / "0.5_0_0" / "log_train.txt").read_text(encoding="utf-8")
    epochs = [int(found) for found in re.findall(r"SupervisedTrainer - INFO - Epoch\[(\d+)\] Complete", log)]
    assert set(epochs) == set(range(1, 61))
    assert len(epochs) <= 61, "more than one epoch was trained twice"
    history = read_json(cells / "dcl" / "0.5_0_0" / "history.json")
    assert [row["epoch"] for row in history] == list(range(1, 61))

    results = read_json(out / "results.json")
    assert [row["method"] for row in results["rows"]] == ["frozen", "dcl"]
    (failed,) = results["not_done"]
    assert (failed["method"], failed["status"]) == ("impossible", "failed")
    assert "rank 5" in failed["reason"]
    assert results["comparisons"][0]["reasons"] == {"test": "1 patient; a test or an interval needs 5"}
    text = (out / "results.md").read_text(encoding="utf-8")
    assert "| impossible | 50 % | missing |" in text
    assert f"impossible 50 % subset 0 seed 0 failed: {failed['reason']}" in text
    assert (out / "results.csv").read_text(encoding="utf-8").count("\n") == 4
    assert 'alt="frozen of ' in (out / "report.html").read_text(encoding="utf-8")
    assert not list(out.glob("*.lock"))

    _refused_mixtures(make_table, phantom, out, capsys, rows)


def _refused_mixtures(make_table: MakeTable, phantom: Path, out: Path, capsys: Any, rows: dict[str, Any]) -> None:
    """The same folder with another label space, another split, another config, and another table."""
    for settings, said in (
        ({"label_space": "cholecseg8k_endovit8"}, "another label space 'cholecseg8k_zhang8'"),
        ({"split_def": "$data.split_by_video(@datalist, (0.5, 0.25, 0.25), seed=1)"}, "another split"),
        ({"learning_rate": 0.5}, "was run with another config, split or data (learning_rate 0.002 → 0.5)"),
    ):
        table = make_table(settings=settings, rows=rows)
        assert main(command(table, phantom, out, "--resume")) == 1
        assert said in capsys.readouterr().err
    assert main(command(make_table(rows=rows, name="other"), phantom, out, "--resume")) == 1
    assert "another table 'tiny', not 'other'" in capsys.readouterr().err


def _wait_for(found: Callable[[], Any], runner: subprocess.Popen, seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if runner.poll() is not None:
            pytest.fail(f"the runner ended by itself: {runner.communicate()[0]}")
        try:
            if value := found():
                return value
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(0.1)
    runner.kill()
    pytest.fail(f"nothing happened in {seconds} s: {runner.communicate()[0]}")


@pytest.mark.slow
def test_a_dry_run_tells_frames_patients_and_time_and_leaves_nothing(
    make_table: MakeTable, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_table(subsets=[0, 1], expected_time="an hour")
    assert main(command(table, phantom, tmp_path / "run", "--dry-run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny: 2 of 2 cells"
    # A half of the eight frames of two patients.
    assert re.match(r"supervised/0.5_0_0: 4 masked frames of [12] patients.*; about \d+ s", lines[1])
    assert re.match(r"supervised, train, 50 %: 2 steps of [\d.]+ s, 1 validated batches of [\d.]+ s", lines[3])
    assert re.match(r"estimated time on this machine: \d+ s; stated: an hour", lines[-1])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "changes", "said"),
    [
        ({"epoch": 3}, {}, "Did you mean 'epochs'?"),
        ({"optimizer#wd": 3}, {}, "takes no argument 'wd'"),
        (
            {"split_def": "$data.split_by_video(@datalist, seed=@seed)"},
            {"seeds": [0, 1]},
            "the split changes with the seed",
        ),
        (
            {},
            {"rows": {"a": {}, "b": {"settings": {"label_space": "cholecseg8k_13"}}}},
            "row 'b' has label_space 'cholecseg8k_13', row 'a' 'cholecseg8k_zhang8'",
        ),
        ({}, {"published": {"source": "x", "rows": {"a": {0.5: {"Lver": 0.5}}}}}, "Did you mean 'Liver'?"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    make_table: MakeTable,
    phantom: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    changes: dict[str, Any],
    said: str,
) -> None:
    assert main(command(make_table(settings, **changes), phantom, tmp_path / "run")) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_missing_data_is_refused(make_table: MakeTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(make_table(), tmp_path / "absent", tmp_path / "run")) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_no_shard(text: str, make_table: MakeTable, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(command(make_table(), tmp_path, tmp_path / "run", "--shard", text))


def test_commands_of_the_page_are_commands(repository: Path) -> None:
    """docs/tables.md shows nothing that the parser would refuse, and no table that does not exist."""
    import argparse

    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    text = (repository / "docs" / "tables.md").read_text(encoding="utf-8")
    found = [
        line.partition("lap_monai table ")[2].replace("\\", "")
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if "lap_monai table " in line
    ]
    assert len(found) >= 5
    for words in found:
        # A shell's variables stand for numbers there.
        args = parser.parse_args(shlex.split(re.sub(r"\$\(\(.*?\)\)|\$\{?\w+\}?", "1", words), comments=True))
        assert (repository / args.table).is_file()


def test_options_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        main(["table", "--help"])
    assert leave.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--resume", "--only", "--jobs", "--shard", "--dry-run", "--processes"))


def test_the_command_is_listed() -> None:
    done = subprocess.run([sys.executable, "-m", "lap_monai", "--help"], capture_output=True, text=True, check=True)
    assert "table" in done.stdout
    assert json.dumps(done.stderr) == '""'
