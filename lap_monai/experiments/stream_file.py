"""Reading and checking a stream file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lap_monai.checks import UserError, did_you_mean
from lap_monai.data.streams import Stream
from lap_monai.experiments.strict_yaml import load_yaml
from lap_monai.label_space import get_label_space

_NEEDED = ("name", "label_space", "steps", "protocol")
_OPTIONS = ("base", "description", "patients", "split", "evaluate", "sources", "weak_labels", "repeated", "seed")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def load_stream(path: str | Path) -> Stream:
    """Read and check a stream file.

    A file with `base: OTHER.yaml` is that other file, beside it, with its own keys in their place; so a variant says
    what it changes and nothing else. `name` is never taken over.

    Raises:
        UserError: naming the file, if it is missing, a key is unknown or stands twice, a value has the wrong form, or
            what is declared makes no stream (see `Stream`).
    """
    path = Path(path)
    return _Reader(path, _with_base(path, ())).stream()


def _with_base(path: Path, through: tuple[Path, ...]) -> dict[str, Any]:
    content = load_yaml(path, "stream")
    if (base := content.get("base")) is None:
        return content
    if not isinstance(base, str):
        raise UserError(f"stream {str(path)!r}: base must be the name of a stream file beside it, not {base!r}.")
    chain = (*through, path.resolve())
    other = path.parent / base
    if other.resolve() in chain:
        raise UserError(f"stream {str(path)!r}: base {base!r} leads back to this file.")
    inherited = _with_base(other, chain)
    return {key: value for key, value in inherited.items() if key not in ("name", "base")} | content


class _Reader:
    """Turns the content of a stream file into a `Stream`, and says where it is wrong."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path, self.content = path, content

    def stream(self) -> Stream:
        for key in self.content:
            if key not in _NEEDED + _OPTIONS:
                self._fail(f"key {key!r} is none that streams have.{did_you_mean(str(key), _NEEDED + _OPTIONS)}")
        if absent := [key for key in _NEEDED if key not in self.content]:
            self._fail(f"{', '.join(absent)} must be given")
        groups, assigned = self._steps()
        values: dict[str, Any] = {
            "name": self._name(),
            "label_space": self._label_space(),
            "groups": groups,
            "assigned": assigned,
            "protocol": self._text("protocol"),
            "description": " ".join(str(self.content.get("description", "")).split()),
        }
        for key in ("patients", "evaluate", "repeated"):
            if key in self.content:
                values[key] = self._text(key)
        if "split" in self.content:
            values["split"] = self._split()
        if "sources" in self.content:
            values["sources"] = self._names(self.content["sources"], "sources")
        if "weak_labels" in self.content:
            values["weak_labels"] = self._of_type("weak_labels", bool, "true or false")
        if "seed" in self.content:
            values["seed"] = self._of_type("seed", int, "a whole number")
        try:
            return Stream(**values)
        except UserError as error:
            self._fail(str(error))

    def _steps(self) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
        """Classes and patients of each step; no patients at all where no step names any."""
        steps = self.content["steps"]
        if not isinstance(steps, list) or not steps:
            self._fail("steps must be a list with the new classes of each step, such as [[liver, colon], [ureter]]")
        groups, assigned = [], []
        for number, step in enumerate(steps):
            entry = step if isinstance(step, dict) else {"classes": step}
            for key in entry:
                if key not in ("classes", "patients"):
                    self._fail(f"step {number} has a key {key!r}; a step has classes and, if wanted, patients")
            groups.append(self._names(entry.get("classes"), f"classes of step {number}"))
            assigned.append(self._names(entry.get("patients", []), f"patients of step {number}", empty=True))
        return tuple(groups), tuple(assigned) if any(assigned) else ()

    def _name(self) -> str:
        name = self.content["name"]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._fail(f"name {name!r} becomes a folder: write letters, digits and _ . + - only")
        return name

    def _label_space(self) -> Any:
        try:
            return get_label_space(self._text("label_space"))
        except UserError as error:
            self._fail(str(error))

    def _split(self) -> str | tuple[float, ...]:
        split = self.content["split"]
        if isinstance(split, str):
            return str((self.path.parent / split).resolve()) if split.endswith(".json") else split
        if isinstance(split, list) and all(isinstance(share, int | float) for share in split):
            return tuple(float(share) for share in split)
        self._fail(f"split must be a name, a JSON file or three shares such as [0.6, 0.2, 0.2], not {split!r}")

    def _names(self, value: Any, where: str, empty: bool = False) -> tuple[str, ...]:
        if not isinstance(value, list) or not (value or empty):
            self._fail(f"{where} must be a list of names, not {value!r}")
        for name in value:
            if not isinstance(name, str):
                self._fail(f"{where} must be names, not {name!r}; YAML needs quotes around a name of digits: '01'")
        return tuple(value)

    def _text(self, key: str) -> str:
        return self._of_type(key, str, "a word")

    def _of_type(self, key: str, kind: type, what: str) -> Any:
        value = self.content[key]
        if type(value) is not kind:
            self._fail(f"{key} must be {what}, not {value!r}")
        return value

    def _fail(self, text: str) -> NoReturn:
        raise UserError(f"stream {str(self.path)!r}: {text.rstrip('.')}.")
