"""YAML in which a key cannot be given twice: PyYAML keeps the last one in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lap_monai.checks import UserError


class _StrictLoader(yaml.SafeLoader):
    """`SafeLoader` that refuses an equal key in one mapping."""

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
        UserError: if it is missing, no YAML, no mapping, or a key stands twice in one mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"No {what} {str(path)!r}; name a YAML file such as those in configs/{what}s.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"The {what} {str(path)!r} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UserError(f"The {what} {str(path)!r} is not one mapping; write `name: …` and so on.")
    return content
