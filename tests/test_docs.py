"""What the documents say: commands are parsed by what would run them, configs merged, names looked up, links followed.

`tests/test_deployment_docs.py` runs those of docs/deployment, `benchmarks/getting_started.py` those of
docs/getting_started.md.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from lap_monai.__main__ import COMMANDS, _parse
from lap_monai.commands.run import parse_override
from lap_monai.experiments import merge_configs

ROOT = Path(__file__).parents[1]
BUNDLES = sorted(path.parent for path in ROOT.glob("bundles/*/configs"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bundles/*/docs/README.md")])
PACKAGE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "lap_monai").rglob("*.py")))
CONFIGS = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("bundles/*/configs/*.json")))
BENCHMARKS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "benchmarks").glob("*.py")))
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
EXTRAS = set(re.findall(r"^([a-z]+) =$", (ROOT / "setup.cfg").read_text(), re.MULTILINE))
#: Programs of others that pages may name, in `sh` blocks or before a command of ours.
FOREIGN = {
    "pip",
    "docker",
    "monailabel",
    "cp",
    "source",
    "export",
    "cat",
    "test",
    "srun",
    "sbatch",
    "pre-commit",
    "nvflare",
}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in any of the languages; `""` is a block that names none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


@dataclass(frozen=True)
class Command:
    """A command of a page, and the folder that the `cd`s before it lead to."""

    page: Path
    folder: Path
    words: tuple[str, ...]


def commands_of(page: Path) -> Iterator[Command]:
    in_bundle = page.match("bundles/*/docs/*.md")  # their blocks name no language, as the model zoo's
    for block in blocks(page, "bash", "sh", *([""] if in_bundle else [])):
        folder = page.parents[1] if in_bundle else ROOT
        text = re.sub(r"<<'(\w+)'\n.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
        for part in re.split(r"\n|&&", text):
            if "…" in part or "─" in part or not part.strip():
                continue  # an abbreviation; a drawing
            words = shlex.split(re.sub(r"\$\{\w+\}", "1", part), comments=True)
            if words[:1] == ["cd"]:
                folder = folder / words[1]
            elif words:
                yield Command(page, folder, tuple(words))


ALL = [command for page in PAGES for command in commands_of(page)]


def identify(value: Any) -> str:
    return f"{value.page.stem}-{' '.join(value.words)[:60]}"


def test_the_search_finds_commands_of_every_kind() -> None:
    """Lest the tests below pass for want of commands."""
    ours = {command.words[3] for command in ALL if command.words[:3] == ("python", "-m", "lap_monai")}
    assert ours >= {"phantom", "check", "run", "predict", "export", "package", "table", "stream"}
    assert sum("monai.bundle" in command.words for command in ALL) > 20
    assert sum("configs/train.json" in command.words for command in ALL) >= 6


@pytest.mark.parametrize("command", ALL, ids=identify)
def test_commands_are_understood(command: Command) -> None:
    words = list(command.words)
    assert command.folder.is_dir(), command.folder
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    match words:
        case ["make", *targets]:
            assert {word for word in targets if "=" not in word} <= MAKE_TARGETS
        case ["python", "-m", "monai.bundle", "run", *options]:
            understood_by_monai(options, command.folder)
        case ["python", "-m", "monai.bundle", *options]:
            files = [word for word in options if word.startswith("configs/")]
            assert all((command.folder / word).is_file() for word in files)
        case ["python", "-m", "lap_monai", name, *rest]:
            assert name in COMMANDS
            understood_by_us([name, *rest], command.folder)
        case ["python", script, *options]:
            source = (ROOT / script).read_text(encoding="utf-8")
            assert all(f'"{word}"' in source for word in options if word.startswith("--"))
        case _:
            assert words[0] in FOREIGN
            assert set(re.findall(r"lap_monai\[(\w+)\]", " ".join(words))) <= EXTRAS


def understood_by_monai(options: list[str], folder: Path) -> None:
    values = {key.removeprefix("--"): value for key, value in zip(options[::2], options[1::2], strict=True)}
    named = values.pop("config_file")
    files = ast.literal_eval(named) if named.startswith("[") else [named]
    home = folder if (folder / files[0]).is_file() else ROOT / "bundles" / "cholecseg8k_contrastive"
    read = dict(parse_override(f"{key}={value}") for key, value in values.items())
    merge_configs([home / file for file in files], read)  # refuses what the config does not have


def understood_by_us(words: list[str], folder: Path) -> None:
    args = _parse(words)
    if words[0] == "run":
        named = [word for word in args.config if word.endswith(".json")]
        # An overlay that the page tells the reader to write is no file of the checkout.
        files = [folder / word for word in named if (folder / word).is_file()]
        assert files
        assert all(word.startswith(("../../runs/", "../../my_")) for word in named if not (folder / word).is_file())
        merge_configs(files, dict(parse_override(word) for word in args.config if not word.endswith(".json")))
    for word in words[1:]:
        if word.startswith(("configs/", "bundles/")):
            assert (folder / word).exists() or (words[0] == "package" and (ROOT / word).exists()), word


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_data_blocks_are_well_formed(page: Path) -> None:
    for block in blocks(page, "yaml"):
        yaml.safe_load(block)
    for block in blocks(page, "json"):
        json.loads(block)
    for block in blocks(page, "python"):
        compile(block, name_of(page), "exec")


# --- names in the prose --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_in_the_prose_exist(page: Path) -> None:
    homes = [ROOT, page.parent, *BUNDLES]
    for word in inline_code(page):
        if word.endswith("x.py") or word.startswith("my_"):
            continue  # what the reader writes
        if re.fullmatch(r"(configs|tests|benchmarks|bundles|lap_monai|docs)/[\w./-]+\.\w+", word):
            assert any((home / word).is_file() for home in homes), word
        elif re.fullmatch(r"[a-z_0-9]+\.json", word):  # a config, or a file that a run leaves
            assert any((home / "configs" / word).is_file() for home in homes) or is_written(word), word


def is_written(name: str) -> bool:
    texts = (PACKAGE, CONFIGS, BENCHMARKS)
    return any(name in text for text in texts) or (ROOT / "docs" / "evidence" / name).is_file()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_of_the_package_exist(page: Path) -> None:
    for word in inline_code(page):
        if match := re.fullmatch(r"lap_monai((?:\.\w+)+)(?:\(.*\))?", word):
            resolve("lap_monai" + match[1])
        if match := re.match(r"python -m lap_monai (\w+)", word):
            assert match[1] in COMMANDS, word
        if match := re.fullmatch(r"make ([a-z-]+)", word):
            assert match[1] in MAKE_TARGETS, word


def resolve(name: str) -> Any:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            fields = getattr(thing, "__annotations__", {})
            thing = fields[part] if part in fields else getattr(thing, part)
        return thing
    raise AssertionError(name)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_named_in_the_prose_exist(page: Path) -> None:
    for word in inline_code(page):
        if match := re.match(r"--([a-z][\w-]*)", word):
            option = match[1]
            known = f'"--{option}"' in PACKAGE + BENCHMARKS or f'"{option}":' in CONFIGS
            assert known or option in ("config_file", "help"), word


# --- links and the site --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)", prose(page)):
        assert (page.parent / target).exists(), target


def test_every_subpackage_has_a_page_of_the_api() -> None:
    subpackages = {path.parent.name for path in ROOT.glob("lap_monai/*/__init__.py")} - {"commands"}
    assert {path.stem for path in ROOT.glob("docs/api/*.md")} == subpackages | {"index", "vocabulary"}
    modules = {path.stem for path in ROOT.glob("lap_monai/*.py")} - {"__init__", "__main__"}
    named = re.findall(r"^::: lap_monai\.(\w+)$", (ROOT / "docs/api/vocabulary.md").read_text(), re.MULTILINE)
    assert set(named) == modules


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. The build ends at a link or an anchor that leads nowhere, a page outside the navigation, or a
    documented argument that a function does not have.
    """
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_shows_every_class_and_function_that_a_subpackage_exports(site: Path) -> None:
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    shown = {line.split()[0] for line in inventory.splitlines()}
    hidden = []
    for path in sorted(ROOT.glob("lap_monai/*/__init__.py")):
        module = importlib.import_module(f"lap_monai.{path.parent.name}")
        for name in getattr(module, "__all__", []):
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                places = {f"{module.__name__}.{name}", f"{thing.__module__}.{thing.__qualname__}"}
                hidden += [] if places & shown else [f"{module.__name__}.{name}"]
    assert not hidden


@pytest.mark.slow
def test_the_site_needs_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(https?:)?//", text)
        fetched += re.findall(r"<link\b[^>]*\bhref=\"?(?:https?:)?//[^>]*>", text)
        assert not fetched, page
    assert not re.search(r"@import|url\((https?:)?//", "".join(path.read_text() for path in site.rglob("*.css")))


# --- what the pages tell the reader to write -----------------------------------------------------------------------


@pytest.mark.slow
def test_the_layout_of_ones_own_trains_and_is_evaluated(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs" / "your_data.md"
    (module,) = blocks(page, "python")
    overlay, split = blocks(page, "json")
    (tmp_path / "my_hospital.py").write_text(module)
    (tmp_path / "my_hospital.json").write_text(overlay)
    monkeypatch.syspath_prepend(tmp_path)
    for number, mask in enumerate(sorted(cli.data.rglob("*_watershed_mask.png"))):
        frame = mask.with_name(mask.name.replace("_watershed_mask", ""))
        folder = tmp_path / "ours" / "patients" / mask.parts[-3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.open(frame).save(folder / f"{number}.png")
        values = Image.open(mask).convert("L").point(lambda value: {22: 80, 31: 160}.get(value, 0))
        values.save(folder / f"{number}_mask.png")

    evaluate = ROOT / "bundles" / "cholecseg8k_contrastive" / "configs" / "evaluate.json"
    for further in ([], [evaluate]):
        outcome = cli.train(overlays=[tmp_path / "my_hospital.json", *further], data=tmp_path / "ours")
        assert outcome.status == 0, outcome.err
    (row,) = json.loads((cli.out / "results.json").read_text())["rows"]
    assert set(row["iou"]) == {"background", "gallbladder", "tool"}
    assert set(json.loads(split)) == {"name", "origin", "train", "val", "test"}


@pytest.mark.slow
def test_the_injected_loss_of_how_it_works_is_a_term_of_the_training(cli: Any, tmp_path: Path) -> None:
    (overlay,) = blocks(ROOT / "docs" / "how_it_works.md", "json")
    (tmp_path / "small_logits.json").write_text(overlay)
    outcome = cli.train("epochs=1", overlays=[tmp_path / "small_logits.json"])
    assert outcome.status == 0, outcome.err
    header, values = (cli.out / "history.csv").read_text().splitlines()[:2]
    row = dict(zip(header.split(","), values.split(","), strict=True))
    assert float(row["small_logits"]) > 0
    assert {"dcl", "cls"} <= set(row)


def test_the_overlay_of_getting_started_leaves_out_what_it_says(cli: Any) -> None:
    page = ROOT / "docs" / "getting_started.md"
    (text,) = re.findall(r"<<'END'\n(.*?)^END$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (cli.folder / "soft.json").write_text(text)
    outcome = cli.train("epochs=1", overlays=[cli.folder / "soft.json"])
    assert outcome.status == 0, outcome.err
    header = (cli.out / "history.csv").read_text().splitlines()[0].split(",")
    assert "dcl" in header
    assert "cls" not in header
