"""Configs of bundles from outside: what may be built, what is refused, what is pointed out."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import FEATURES, CommandLine

from lap_monai.checks import UserError
from lap_monai.config_safety import needed_parts, unsafe_parts, unusual_code
from lap_monai.inference import Bundle
from lap_monai.packaging import pack_bundle

BUILT = ("network_def", "preprocessing", "inferer")
BUNDLES = ("cholecseg8k_contrastive", "dresden_incremental")


def inference(repository: Path, bundle: str = BUNDLES[0]) -> dict[str, Any]:
    return json.loads((repository / "bundles" / bundle / "configs" / "inference.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_our_own_bundles_are_built_of_stock_classes(repository: Path, bundle: str) -> None:
    config = inference(repository, bundle)
    assert unsafe_parts(config, BUILT) == []
    assert "imports" in config
    assert not {"imports", "images", "device", "run"} & needed_parts(config, BUILT).keys()


#: What somebody could have put into an inference config, and what is said of it.
HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a call": (
        lambda c: c["network_def"].update(_target_="os.system", command="true"),
        "network_def calls 'os.system'",
    ),
    "a class that only ends well": (lambda c: c["network_def"].update(_target_="evil.BasicUNet"), "calls 'evil.Basic"),
    "a target that is computed": (lambda c: c["network_def"].update(_target_="$monai.x"), "network_def#_target_ runs"),
    "a target that is no text": (lambda c: c["network_def"].update(_target_=["os.system"]), "calls ['os.system']"),
    "a stock class that runs what it is given": (
        lambda c: c["network_def"].update(_target_="monai.transforms.Lambda", func="os.getpid"),
        "calls 'monai.transforms.Lambda'",
    ),
    "an expression": (
        lambda c: c["network_def"].update(dropout="$__import__('os').getpid()"),
        "network_def#dropout runs",
    ),
    "one behind a reference": (lambda c: c.update(num_classes="$print(8) or 8"), "num_classes runs"),
    "one behind two": (lambda c: c.update(num_classes="@other", other="$exit()"), "other runs '$exit()'"),
    "one in a description": (
        lambda c: c["network_def"].update(_desc_="$import os; os.abort()"),
        "network_def#_desc_ runs '$import os; os.abort()'",
    ),
    "one that differs by a blank": (
        lambda c: c["preprocessing"]["transforms"][-1].update(dtype="$torch.float32 "),
        "transforms#5#dtype runs",
    ),
    "a component in an argument": (
        lambda c: c["inferer"].update(device={"_target_": "subprocess.run", "args": ["true"]}),
        "inferer#device calls 'subprocess.run'",
    ),
    "a class as a reader": (
        lambda c: c["preprocessing"]["transforms"][0].update(reader="subprocess.Popen"),
        "has the reader 'subprocess.Popen'",
    ),
    "a list of readers": (
        lambda c: c["preprocessing"]["transforms"][0].update(reader=["PILReader"]),
        "has the reader ['PILReader']",
    ),
    "no reader": (lambda c: c["preprocessing"]["transforms"][0].pop("reader"), "has the reader None"),
    "a debugger": (lambda c: c["inferer"].update(_mode_="debug"), "inferer has _mode_"),
    "what must be there": (lambda c: c["inferer"].update(_requires_=["@run"]), "inferer has _requires_"),
    "a switch that is computed": (lambda c: c["inferer"].update(_disabled_="true"), "has _disabled_ 'true'"),
    "a macro": (lambda c: c.update(window="%/etc/passwd::root"), "window copies from elsewhere"),
    "a relative reference": (lambda c: c["inferer"].update(roi_size="@##run"), "relative reference '@##run'"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_on_no_list_is_found(repository: Path, what: str) -> None:
    change, said = HOSTILE[what]
    config = inference(repository)
    change(config)
    assert any(said in found for found in unsafe_parts(config, BUILT)), unsafe_parts(config, BUILT)


def test_what_nobody_builds_is_nobodys_business(repository: Path) -> None:
    config = inference(repository)
    config |= {"imports": ["$import antigravity"], "images": "$exit()", "evaluator": {"_target_": "os.abort"}}
    assert unsafe_parts(config, BUILT) == []


@pytest.fixture
def bundle(repository: Path, tiny_run: Path, tmp_path: Path) -> Path:
    """Our bundle with the weights of a tiny training."""
    copy = tmp_path / BUNDLES[0]
    shutil.copytree(repository / "bundles" / BUNDLES[0], copy, ignore=shutil.ignore_patterns("models", "eval"))
    (copy / "models").mkdir()
    shutil.copy(tiny_run / "models" / "model.pt", copy / "models" / "model.pt")
    edit(copy, lambda config: config["network_def"].update(features=FEATURES))
    return copy


def edit(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def test_predict_opens_our_bundle_safely_and_runs_nothing_that_it_does_not_need(
    cli: CommandLine, bundle: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    trap = tmp_path / "trap"
    edit(bundle, lambda config: config["imports"].append(f"$import pathlib; pathlib.Path({str(trap)!r}).touch()"))
    frames = next(cli.data.glob("video*/*"))
    for more in ([], ["--safe"]):
        out = tmp_path / f"out{len(more)}"
        done = cli("predict", frames, "--bundle", bundle, "--out", out, "--device", "cpu", "--write", "labels", *more)
        assert done.status == 0, done.err
    assert not trap.exists()
    assert not [warning for warning in recwarn if "code of its own" in str(warning.message)]


def test_predict_warns_of_code_in_a_bundle_and_refuses_it_if_asked(
    cli: CommandLine, bundle: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    edit(bundle, lambda config: config["inferer"].update(overlap=f"$open({str(trap)!r}, 'w') and 0.25"))
    words = ["predict", next(cli.data.glob("video*/*")), "--bundle", bundle, "--device", "cpu", "--write", "labels"]
    error = cli(*words, "--out", tmp_path / "safe", "--safe").error
    assert "inferer#overlap runs" in error
    assert "leave --safe out" in error
    assert not trap.exists()
    assert not (tmp_path / "safe").exists()
    with pytest.warns(UserWarning, match="runs code of its own: inferer#overlap runs .* \\(--safe refuses others\\)"):
        assert cli(*words, "--out", tmp_path / "out", "--mode", "window").status == 0
    assert trap.exists(), "or this test proves nothing"


def test_safe_goes_with_the_engine_that_is_looked_into(cli: CommandLine, tiny_run: Path) -> None:
    words = ["predict", cli.data, "--bundle", tiny_run, "--out", cli.out, "--safe"]
    assert "cannot be looked into" in cli(*words, "--engine", "torchscript").error


def test_a_run_folder_is_judged_like_a_bundle(tiny_run: Path, tmp_path: Path) -> None:
    assert Bundle.open(tiny_run, safe=True).name
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    config = next(run.glob("config_*.json"))
    content = json.loads(config.read_text(encoding="utf-8"))
    content["backbone_def"]["dropout"] = "$0.0"
    config.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="network_def#dropout runs"):
        Bundle.open(run, safe=True)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "bundles").glob("*/configs/*.json")), ids=str)
def test_our_configs_are_usual(path: Path) -> None:
    assert unusual_code(json.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess",
        "from urllib import request",
        "__import__('os').system('true')",
        "os.system('true')",
        "os.remove('x')",
        "sys.exit()",
        "(lambda: eval('1'))()",
        "@network.__class__.__init__.__globals__",
        "torch.load('x')",
        "torch.hub.load('a', 'b')",
        "monai.apps.download_url('x')",
        "open('x', 'w')",
        "no python",
    ],
)
def test_unusual_code_is_pointed_out(code: str) -> None:
    assert unusual_code({"train": {"key": [f"${code}"]}}) == [f"train#key#0: ${code}"]


def test_packing_points_out_code(
    repository: Path, bundle: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    pack_bundle(bundle, tmp_path / "plain.zip")
    assert not [warning for warning in recwarn if "code of its own" in str(warning.message)]
    edit(bundle, lambda config: config.update(images="$__import__('os').listdir('.')", overlap="$1 / 4"))
    with pytest.warns(UserWarning, match="runs code of its own: configs/inference.json has images: .* and 1 more"):
        pack_bundle(bundle, tmp_path / "odd.zip")


# --- the source itself ---------------------------------------------------------------------------------------------

SOURCES = sorted(
    path for folder in ("lap_monai", "benchmarks") for path in (Path(__file__).parents[1] / folder).rglob("*.py")
)


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def test_nothing_is_unpickled() -> None:
    """torch reads weights only, NumPy no objects, and nobody calls pickle, YAML's full loader or a shell."""
    loads = 0
    for path in SOURCES:
        for call in calls(path):
            name, given = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
            if name == "torch.load":
                loads += 1
                assert given.get("weights_only") == "True", f"{path}:{call.lineno}"
            assert given.get("allow_pickle", "False") == "False", f"{path}:{call.lineno}"
            assert given.get("shell", "False") == "False", f"{path}:{call.lineno}"
            assert name not in ("os.system", "os.popen", "eval", "exec"), f"{path}:{call.lineno}"
            assert not re.match(r"(pickle|dill|cloudpickle|joblib|marshal|shelve)\.", name), f"{path}:{call.lineno}"
            if name == "yaml.load":
                assert ast.unparse(call.args[1]) == "_StrictLoader", f"{path}:{call.lineno}"
    assert loads >= 3, "or this test looks for the wrong name"


def test_nothing_in_the_package_speaks_to_the_network() -> None:
    """Of the standard library and of requests; MLflow alone, in its one module, sends to a server that a user names."""
    speaking = {"http", "requests", "socketserver", "urllib.request", "urllib3", "ftplib", "smtplib", "mlflow"}
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            hits = {name for name in names if name in speaking or name.split(".")[0] in speaking}
            if hits:
                found.setdefault(path.name, set()).update(hits)
    assert found.pop("mlflow_outbox.py") == {"mlflow"}
    assert all(names == {"mlflow"} for names in found.values()), found
