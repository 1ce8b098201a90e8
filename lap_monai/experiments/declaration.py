"""What the readers of study files share: forms of values, and errors that name the file."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from lap_monai.checks import UserError, did_you_mean, require_choice

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


class Declaration:
    """The content of a YAML file, and questions to it that end in a `UserError` where its author went wrong.

    Args:
        path: the file; other files that it names lie beside it.
        content: what it holds.
    """

    what: ClassVar[str] = "file"  #: what people call such a file
    plural: ClassVar[str] = "files"

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content

    def _bundle_folder(self, name: Any, where: str) -> Path:
        folder = (self.path.parent / str(name)).resolve()
        # Unlike `Path.is_dir`, no error for a name that no file system takes.
        if not os.path.isdir(folder / "configs"):
            self._fail(f"{where} {name!r}: no such bundle beside the {self.what} file, at {str(folder)!r}")
        return folder

    def _config_files(self, names: Any, where: str, bundle: Path) -> tuple[Path, ...]:
        """Files by their names in the bundle's `configs` or beside the file."""
        if not isinstance(names, list):
            self._fail(f"{where} must be a list of config files, not {names!r}")
        return tuple(self._config_file(str(name), where, bundle) for name in names)

    def _config_file(self, name: str, where: str, bundle: Path) -> Path:
        folder = bundle / "configs"
        for file in (folder / name, self.path.parent / name):
            if os.path.isfile(file):
                return file.resolve()
        hint = did_you_mean(name, (file.name for file in folder.glob("*.json")))
        self._fail(f"{where}: no config {name!r}.{hint}".rstrip("."))

    def _list(self, key: str, kinds: tuple[type, ...], what: str, default: Any = None, empty: bool = False) -> list:
        values = self.content.get(key, default)
        right = isinstance(values, list) and all(
            isinstance(value, kinds) and not isinstance(value, bool) for value in values
        )
        if not right or (not values and not empty):
            self._fail(f"{key} must be a list of {what}, not {values!r}")
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            self._fail(f"{key} lists {twice[0]} twice, which would be the same runs twice")
        return values

    def _keys(self, entry: Mapping[str, Any], known: str, where: str, needed: str = "") -> None:
        for key in entry:
            if key not in known.split():
                hint = did_you_mean(str(key), known.split())
                self._fail(f"{where} has a key {key!r}, which {self.plural} do not have.{hint}")
        if absent := [key for key in needed.split() if key not in entry]:
            self._fail(f"{where} lacks {', '.join(absent)}")

    def _mapping(self, value: Any, where: str) -> dict[Any, Any]:
        if not isinstance(value, dict):
            self._fail(f"{where} must be a mapping, not {value!r}")
        return value

    def _name(self, name: Any, where: str) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._fail(f"{where} {name!r} becomes a folder: write letters, digits and _ . + - only")
        return name

    def _choice(self, value: str, known: Sequence[str], what: str) -> str:
        try:
            return require_choice(value, known, what)
        except UserError as error:
            self._fail(str(error).rstrip("."))

    def _fail(self, text: str) -> NoReturn:
        raise UserError(f"{self.what} {str(self.path)!r}: {text.rstrip('.')}.")
