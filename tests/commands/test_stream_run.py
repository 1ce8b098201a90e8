"""`python -m lap_monai stream`: two steps of a tiny phantom, from the data to results and report.

A runner that is killed is a matter of `tests/faults`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import pytest
import yaml
from command_line import CommandLine, Outcome, assert_same_network, contents, undone

from lap_monai.__main__ import main
from lap_monai.data import write_phantom
from lap_monai.experiments.run_lock import RunLock
from lap_monai.experiments.stream_statistics import SCORES
from lap_monai.files import read_json, write_json

TINY = {
    "frame_size": [32, 48],
    "window": [32, 48],
    "overlap": 0,
    "architecture#features": [4, 8, 8, 16, 16, 4],
    "epochs": 2,
    "steps_per_epoch": 2,
    "real_per_batch": 4,
    "num_workers": 0,
    "device": "$torch.device('cpu')",
}
GENERATOR = {
    "frame_size": [32, 48],
    "channels": [8, 32],
    "attention_levels": [False, False],
    "num_res_blocks": 1,
    "timesteps": 20,
    "epochs": 1,
    "steps_per_epoch": 2,
    "batch_size": 4,
    "num_workers": 0,
}
DDCL = {"memory_size": 50, "anchors": 64, "embedding_dim": 8}

EVERY_IMAGE = (
    "$(lambda every: (every.keep(replay.REASONS), every.rows())[1])(replay.SyntheticSet.open(@synthetic_sets[0]))"
)

Stream = Callable[..., Outcome]


class Finished:
    """A process that has ended, for a runner that asks about it."""

    pid = os.getpid()

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int:
        return self.code


def run_here(command: Sequence[str], _environment: Any, log: IO[bytes]) -> Finished:
    """Run `python -m lap_monai run …` in this process, which spares the seconds in which another would start."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), undone():
        code = main(list(command[3:]))
    log.write(output.getvalue().encode())
    log.flush()
    return Finished(code)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients, a frame an organ; not to be changed."""
    return write_phantom(tmp_path_factory.mktemp("data") / "dsad", "dsad", videos=12, frames=1, size=(64, 48))


def write_files(folder: Path, repository: Path, **changes: Any) -> tuple[Path, Path]:
    """A stream of two steps, and a study of tiny networks."""
    bundles = repository / "bundles"
    stream = {
        "name": "two",
        "label_space": "dsad_11",
        "protocol": "one_organ_per_frame",
        "split": [0.5, 0.25, 0.25],
        "steps": [["liver", "stomach"], ["colon"]],
    }
    study = {
        "name": "tiny",
        "bundle": str(bundles / "dresden_incremental"),
        "configs": ["tiny_steps.json"],
        "generator": {
            "bundle": str(bundles / "dresden_replay_diffusion"),
            "settings": GENERATOR,
            "sampling": {"count": 12, "steps": 3},
            "audit": {"level": 0.1},
        },
        "methods": {
            "finetune": None,
            "joint": None,
            "exemplar": {"settings": {"exemplars": 2}},
            # Two iterations teach a generator noise, of which the audit keeps nothing: so all is taken, kept or not.
            "ddcl": {"settings": {**DDCL, "synthetic_rows": EVERY_IMAGE}},
            "strict": {"overlays": ["ddcl.json", "ddcl_expert.json"], "settings": DDCL},
        },
    }
    write_json(folder / "tiny_steps.json", TINY)
    paths = folder / "two.yaml", folder / "tiny.yaml"
    for path, content in zip(paths, (stream | changes, study), strict=True):
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return paths


@pytest.fixture
def stream(
    tmp_path: Path,
    phantom: Path,
    repository: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Stream:
    """Run the two steps in this process."""
    monkeypatch.setenv("LAP_MONAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lap_monai.experiments.cell_process.start_command", run_here)

    def run(*words: object, out: Path | None = None, data: Path = phantom, **changes: Any) -> Outcome:
        stream_file, study = write_files(tmp_path, repository, **changes)
        cli = CommandLine(tmp_path, data, capsys.readouterr)
        return cli("stream", stream_file, "--study", study, "--data", data, "--out", out or tmp_path / "run", *words)

    return run


def of_step(run: Path, method: str, number: int) -> Path:
    return run / "cells" / method / "seed_0" / f"step_{number}"


@pytest.mark.slow
def test_methods_go_through_the_stream_and_are_compared(stream: Stream, tmp_path: Path) -> None:
    outcome = stream("--methods", "finetune,joint,exemplar")
    assert outcome.status == 0, outcome.err
    results = read_json(tmp_path / "run" / "results.json")
    assert [(row["method"], row["step"]) for row in results["rows"]] == [
        ("finetune", 0), ("finetune", 1), ("joint", 1), ("exemplar", 0), ("exemplar", 1),
    ]  # fmt: skip
    assert results["classes"] == ["background", "colon", "liver", "stomach"]
    for row in results["rows"]:
        assert row["iou"].keys() == set(results["classes"])
        assert (row["iou"]["colon"] is None) == (row["step"] == 0)
        assert row["per_video"]["videos"]
        assert row["means"].keys() == SCORES.keys()
    finetune, exemplar = results["rows"][0], results["rows"][3]
    assert finetune["folder"] == exemplar["folder"], "step 0 was trained once"
    assert exemplar["kept"] == {"real_images": 0, "synthetic_images": 0, "bytes": 0}
    assert results["rows"][4]["kept"]["real_images"] == 2
    assert len(list((tmp_path / "run" / "shared").iterdir())) == 1
    assert {entry["method"]: entry["n_seeds"] for entry in results["summary"]} == dict.fromkeys(results["labels"], 1)
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Same frames, all methods, after every step" in report
    assert 'alt="exemplar after step 1' in report
    before = contents(tmp_path / "run" / "cells")
    again = stream("--methods", "finetune,joint,exemplar", "--resume")
    assert "3 done, 0 to go on" in again.out
    assert contents(tmp_path / "run" / "cells") == before


@pytest.mark.slow
def test_later_steps_do_without_the_frames_of_earlier_ones(stream: Stream, phantom: Path, tmp_path: Path) -> None:
    """Step 0 ends, its frames, masks and their caches are deleted, and step 1 comes out as if they were there."""
    data = shutil.copytree(phantom, tmp_path / "copy")
    kept, bare = tmp_path / "kept", tmp_path / "bare"
    assert stream("--methods", "ddcl", out=kept, data=data).status == 0
    assert stream("--methods", "ddcl", "--until", "0", out=bare, data=data).status == 0
    assert not of_step(bare, "ddcl", 1).exists()
    step = read_json(bare / "steps" / "step_0.json")
    for row in (*step["train"], *step["val"]):
        for path in (row["image"], *row["label"]):
            Path(path).unlink()
    shutil.rmtree(bare / "frames" / "step_0")
    shutil.rmtree(tmp_path / "cache")
    outcome = stream("--methods", "ddcl", "--resume", out=bare, data=data)
    assert outcome.status == 0, outcome.err
    models = [of_step(run, "ddcl", 1) / "models" / "model.pt" for run in (kept, bare)]
    assert_same_network(*models)


@pytest.mark.slow
def test_what_cannot_be_used_is_refused(stream: Stream, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert stream("--methods", "strict", "--until", "0").status == 0
    (audited,) = run.glob("shared/synthetic_*/set/manifest.json")
    manifest = read_json(audited)
    audited.unlink()
    assert "There is no synthetic set" in stream("--methods", "strict", "--resume").err
    write_json(audited, {**manifest, "audit": None})
    assert "was not audited" in stream("--methods", "strict", "--resume").err
    manifest["audit"]["memorisation"]["share"] = 0.9
    write_json(audited, manifest)
    assert "failed: 90% of its images are copies" in stream("--methods", "strict", "--resume").err

    stream("--methods", "finetune", out=tmp_path / "other", name="another")
    for model in (tmp_path / "other" / "shared").glob("base_*/models/model.pt"):
        for own in run.glob("shared/base_*/models/model.pt"):
            shutil.copy(model, own)
    error = stream("--methods", "finetune", "--resume").err
    assert "stream" in error
    assert "another" in error


@pytest.mark.slow
def test_a_dry_run_times_every_kind_of_run_and_leaves_nothing(stream: Stream, tmp_path: Path) -> None:
    wanted = ("--methods", "strict,joint", "--seeds", "0,1", "--dry-run")
    outcome = stream(*wanted, "--time")
    assert outcome.status == 0, outcome.err
    *kinds, total = outcome.out.partition("in two steps.\n")[2].splitlines()
    found = {line.partition(":")[0]: line for line in kinds if " x " in line}
    assert found.keys() == {"base", "evaluate", "generator", "generate", "expert", "strict", "joint"}
    assert found["evaluate"].startswith("evaluate: 3 x ")
    assert "an iteration or image" in found["generate"]
    assert re.search(r"estimated time on this machine: .* for 2 methods and 2 seeds", total)
    assert not (tmp_path / "run").exists()
    assert "goes with --dry-run" in stream("--time").error


def test_bad_words_and_folders_of_something_else(stream: Stream, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "Did you mean 'finetune'?" in stream("--methods", "finetun").error
    assert "has the steps 0 to 1" in stream("--until", "2").error
    assert not run.exists(), "nothing was begun"
    write_json(run / "results.json", {})
    assert "results of no known stream" in stream("--methods", "finetune").error


def test_two_runners_never_share_a_folder(stream: Stream, tmp_path: Path) -> None:
    with RunLock(tmp_path / "run"):
        assert "is in use by process" in stream("--methods", "finetune").error


def test_two_streams_never_share_a_folder(stream: Stream, phantom: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("lap_monai.commands.stream._starter", lambda *_: _nobody)
    failed = stream("--methods", "finetune")
    assert "nobody works" in failed.err
    assert "add --resume" in stream("--methods", "finetune").error
    assert "results of another stream 'two', not 'three'" in stream("--resume", name="three").error
    moved = shutil.copytree(phantom, tmp_path / "moved")
    assert "another data set folder" in stream("--resume", data=moved).error
    changed = stream("--resume", steps=[["liver"], ["colon"]]).error
    assert "another declaration of this stream" in changed


def test_a_study_runs_each_of_its_streams_in_a_folder_of_its_own(
    stream: Stream, tmp_path: Path, phantom: Path, repository: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("lap_monai.commands.stream._starter", lambda *_: _nobody)
    stream_file, study = write_files(tmp_path, repository)
    other = tmp_path / "other.yaml"
    other.write_text(stream_file.read_text(encoding="utf-8").replace("name: two", "name: other"), encoding="utf-8")
    listed = tmp_path / "listed.yaml"
    listed.write_text(yaml.safe_dump({"base": study.name, "streams": ["two.yaml", "other.yaml"], "run": ["finetune"]}))
    cli = CommandLine(tmp_path, phantom, capsys.readouterr)
    outcome = cli("stream", listed, "--data", phantom, "--out", tmp_path / "study")
    assert outcome.status == 1, "nobody works"
    text = (tmp_path / "study" / "results.md").read_text(encoding="utf-8")
    assert "# two" in text
    assert "# other" in text
    assert read_json(tmp_path / "study" / "other" / "results.json")["not_done"]
    assert read_json(tmp_path / "study" / "results.json")["rows"] == []


class _Idle:
    def poll(self) -> Any:
        from lap_monai.experiments.cell_process import Outcome as Ended

        return Ended("failed", "nobody works")

    def stop(self) -> None:
        """There is nothing to stop."""


def _nobody(_cell: Any, _slot: int) -> _Idle:
    return _Idle()
