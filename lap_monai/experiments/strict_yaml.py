"""YAML in which a key cannot be given twice: PyYAML keeps the last one in silence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from lap_monai.checks import UserError

#: A file of more is no declaration.
_MOST_BYTES = 2**20
#: Levels of nesting beyond which a file is no declaration.
_MOST_LEVELS = 50


class _StrictLoader(yaml.SafeLoader):
    """`SafeLoader` that refuses an equal key in one mapping, aliases and deep nesting.

    A few lines of aliases stand for a list of a billion entries, or for one within itself.
    """

    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "an alias (*name): write it out", event.start_mark)
        self._level += 1
        if self._level > _MOST_LEVELS:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict)):
                raise yaml.constructor.ConstructorError(None, None, "a list is no key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(path: str | Path, what: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Args:
        path: the file.
        what: what it is to be, for messages.

    Raises:
        UserError: if it is missing, of more than 1 MiB, no YAML, no mapping, a key stands twice in one mapping, or it
            has aliases.
    """
    path = Path(path)
    if not os.path.isfile(path):  # no error for a name that no file system takes
        raise UserError(f"No {what} {str(path)!r}; name a YAML file such as those in configs/{what}s.")
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"The {what} {str(path)!r} is of more than {_MOST_BYTES >> 20} MiB; name another file.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except (yaml.YAMLError, ValueError) as error:  # of values too: 2024-99-99 is no day
        raise UserError(f"The {what} {str(path)!r} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UserError(f"The {what} {str(path)!r} is not one mapping; write `name: …` and so on.")
    return content
