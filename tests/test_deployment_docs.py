"""Every command in docs/deployment: run, or where that takes data or minutes, parsed by what would run it.

`bash` blocks are ours; `sh` blocks are other people's programs, which are only split into words.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lap_monai.__main__ import COMMANDS, _parse
from lap_monai.commands.run import parse_override
from lap_monai.experiments import merge_configs

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "deployment").glob("*.md"))
#: Programs of other projects that a page may name.
FOREIGN = {"pip", "docker", "monailabel", "cp"}


def blocks(page: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path, language: str = "bash") -> list[list[str]]:
    lines = [line for block in blocks(page, language) for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


OURS = [(page.stem, words) for page in PAGES for words in commands(page)]
#: What takes seconds on a tiny network.
QUICK = [
    words
    for _, words in OURS
    if words[3] in ("predict", "export") and "--data" not in words and "int8" not in words[-1]
]


def test_all_pages_are_there() -> None:
    assert {page.stem for page in PAGES} == {"deploy", "engines", "monai", "monai_label", "triton"}
    assert len(QUICK) >= 4


@pytest.mark.parametrize(("page", "words"), OURS, ids=lambda value: value if isinstance(value, str) else value[3])
def test_commands_are_understood(page: str, words: list[str]) -> None:
    assert words[:2] == ["python", "-m"], page
    if words[2] == "monai.bundle":
        options = dict(zip(words[4::2], words[5::2], strict=True))
        keys = {key.removeprefix("--"): value for key, value in options.items()}
        file = ROOT / "bundles" / "cholecseg8k_contrastive" / keys.pop("config_file")
        merge_configs([file], keys)  # refuses what the config does not have
        return
    assert words[2] == "lap_monai"
    assert words[3] in COMMANDS
    args = _parse(words[3:])
    if words[3] == "run":
        files = [ROOT / word for word in args.config if word.endswith(".json")]
        merge_configs(files, dict(parse_override(word) for word in args.config if not word.endswith(".json")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_other_programs_are_known_ones(page: Path) -> None:
    assert {words[0] for words in commands(page, "sh")} <= FOREIGN


@pytest.fixture(scope="module")
def workplace(tiny_run: Path, tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(tiny_run, folder / "runs" / "first")
    frames = sorted(tiny_phantom.rglob("*_endo.png"))[:2]
    (folder / "FRAMES").mkdir()
    for path in frames:
        shutil.copy(path, folder / "FRAMES")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("words", QUICK, ids=lambda words: "-".join(words[3:]).replace("/", "."))
def test_commands_run(words: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from command_line import undone

    from lap_monai.__main__ import main

    monkeypatch.chdir(workplace)
    with undone():
        assert main(words[3:]) == 0


@pytest.mark.parametrize("page", [page for page in PAGES if list(blocks(page, "python"))], ids=lambda page: page.stem)
def test_python_runs(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_pages_name_exist(page: Path) -> None:
    for name in re.findall(r"`(tests/[\w/]+\.py|bundles/[\w/.]+\.json)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name
