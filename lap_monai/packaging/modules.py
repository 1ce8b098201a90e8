"""Which modules of this package a bundle needs, and how they live on as `scripts.lap_monai`.

The model zoo keeps a bundle's own Python in `scripts/`, imported as `scripts.…`. A packed bundle holds a copy of the
modules it needs there, with their imports of each other, and the names in its configs, changed accordingly.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import lap_monai
from lap_monai.checks import UserError
from lap_monai.data.splits import SPLIT_DIRECTORY

#: Name of this package.
PACKAGE = "lap_monai"
#: Its name in a packed bundle.
PACKED_PACKAGE = f"scripts.{PACKAGE}"

_ROOT = Path(lap_monai.__file__).resolve().parent
# A dotted name of this package; not a folder's name, not the `python -m lap_monai` of a description.
_NAME = re.compile(rf"(?<![\w./-]){PACKAGE}(?=\.[A-Za-z_])(?:\.[A-Za-z_]\w*)+")


def package_files(config_texts: Iterable[str]) -> dict[str, Path]:
    """Return the files of this package that configs need, by their path below the folder that holds the package.

    Modules are found by following imports, those inside functions and behind `TYPE_CHECKING` too, from every
    `lap_monai.…` in the texts. The files of other kinds beside a module (templates, style sheets) come with it, and the
    split files with `lap_monai.data.splits`, which looks for them beside the package.

    Args:
        config_texts: the configs as they are written.

    Returns:
        `{"lap_monai/losses/focal.py": path, …}`, sorted; empty if no config names this package.

    Raises:
        UserError: if a config names a module that does not exist.
    """
    names = {match[0] for text in config_texts for match in _NAME.finditer(text)}
    modules: dict[str, Path] = {}
    waiting = [module for name in sorted(names) for module in _named_by_config(name)]
    while waiting:
        module = waiting.pop()
        if module not in modules:
            modules[module] = _file_of(module)
            waiting += _imported_by(module)
    files = set(modules.values())
    files |= {path for file in modules.values() for path in file.parent.iterdir() if _is_data(path)}
    if f"{PACKAGE}.data.splits" in modules:
        files |= set(SPLIT_DIRECTORY.glob("*.json"))
    return {path.relative_to(_ROOT.parent).as_posix(): path for path in sorted(files)}


def pack_names(config_text: str) -> str:
    """Return a config's text with every `lap_monai.…` as `scripts.lap_monai.…`."""
    return _NAME.sub(lambda match: f"scripts.{match[0]}", config_text)


def pack_source(source: str) -> str:
    """Return a module's text with its imports of this package changed to those of the packed one.

    Every name that an import bound stays bound, so that nothing but import statements changes.
    """
    lines = source.splitlines(keepends=True)
    for node in _imports(source):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        if isinstance(node, ast.ImportFrom):
            if node.level == 0 and _is_ours(node.module or ""):
                lines[first] = lines[first].replace(f"from {PACKAGE}", f"from {PACKED_PACKAGE}", 1)
        elif any(_is_ours(alias.name) for alias in node.names):
            head = lines[first].encode()[: node.col_offset].decode()
            tail = lines[last].encode()[node.end_col_offset :].decode()
            packed = ", ".join(_packed_import(alias) for alias in node.names)
            lines[first : last + 1] = [f"{head}import {packed}{tail}", *[""] * (last - first)]
    return "".join(lines)


def _packed_import(alias: ast.alias) -> str:
    if not _is_ours(alias.name):
        return alias.name + (f" as {alias.asname}" if alias.asname else "")
    if alias.asname:
        return f"scripts.{alias.name} as {alias.asname}"
    whole = f"{PACKED_PACKAGE} as {PACKAGE}"  # `import lap_monai.x` binds `lap_monai`
    return whole if alias.name == PACKAGE else f"scripts.{alias.name}, {whole}"


def _named_by_config(name: str) -> Iterator[str]:
    """Yield the module that a dotted name of a config starts with, and its parents."""
    if _file_or_none(".".join(name.split(".")[:2])) is None:
        raise UserError(f"A config names {name!r}, but {PACKAGE} has no module {name.split('.')[1]!r}; mend the name.")
    yield from _modules_of(name)


def _modules_of(name: str) -> Iterator[str]:
    """Yield every module among the starts of a dotted name; importing the name runs all of them."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if _file_or_none(module := ".".join(parts[:end])) is None:
            return
        yield module


def _imported_by(module: str) -> Iterator[str]:
    file = _file_of(module)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in _imports(file.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{origin}.{alias.name}" for alias in node.names]  # an imported name may be a module
        for name in names:
            if _is_ours(name):
                yield from _modules_of(name)


def _imports(source: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]


def _is_ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def _file_of(module: str) -> Path:
    file = _file_or_none(module)
    assert file is not None
    return file


def _file_or_none(module: str) -> Path | None:
    path = _ROOT.parent.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _is_data(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith(".")
