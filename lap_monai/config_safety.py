"""What a bundle's config would run when it is read: MONAI evaluates `$` expressions and calls what `_target_` names.

Two questions. `unsafe_parts`: may these parts of a config from anywhere be built, because all they name is on a list of
stock classes? That is a guarantee, and strict. `unusual_code`: do the expressions of a config go beyond what bundles
need? That is a hint for a reader, and no guarantee.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Classes of MONAI that only make a network, a transform or an inferer of plain values: no code, files or downloads.
SAFE_TARGETS = frozenset(
    {
        *("AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DynUNet", "SegResNet", "UNet"),
        *("Compose", "EnsureChannelFirstd", "EnsureTyped", "LoadImaged", "Resized", "ScaleIntensityRanged"),
        *("Transposed", "SimpleInferer", "SlidingWindowInferer"),
    }
)
#: A class of this package that a trained bundle may be made of.
_OUR_TARGETS = frozenset({"lap_monai.networks.EfficientNetLiteUNet"})
#: Expressions, to the letter, that are on every list: they make a value of nothing else.
SAFE_EXPRESSIONS = frozenset({"$torch.float32", "$lambda image: image.convert('RGB')"})
#: MONAI calls whatever class a reader's name leads to; this one it may be.
_SAFE_READER = "PILReader"
#: What a component may say about itself; `_mode_` could start a debugger.
_SAFE_WORDS = frozenset({"_target_", "_disabled_"})

#: Modules whose use in an expression is usual, and what of `os` and `sys` is.
_USUAL_IMPORTS = frozenset({"glob", "ignite", "lap_monai", "math", "monai", "numpy", "os", "scripts", "sys", "torch"})
_USUAL_ATTRIBUTES = {"os": {"path", "environ"}, "sys": {"stderr", "stdout"}}
_UNUSUAL_NAMES = frozenset(
    {
        *("__builtins__", "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "exit", "globals"),
        *("input", "locals", "open", "quit", "setattr", "vars"),
    }
)
#: Attributes of the usual modules that run code, load pickles or reach the network.
_UNUSUAL_ATTRIBUTES = frozenset(
    {"download_and_extract", "download_url", "hub", "load", "load_module", "popen", "run", "system"}
)
#: What a reference to another part of the config is read as.
_REFERENCE = "_reference"


def needed_parts(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the top-level entries of a config that `names` lead to, over references, and no others.

    Args:
        config: unresolved.
        names: top-level ids; unknown ones are passed over.
    """
    parts: dict[str, Any] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in config and name not in parts:
            parts[name] = config[name]
            for _, text in _texts(config[name]):
                waiting += re.findall(r"@(\w+)", text) if text.startswith(("@", "$")) else ()
    return parts


def unsafe_parts(config: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Say what in these parts of a config, and in what they refer to, is on no list; empty if they may be built.

    Only `needed_parts(config, names)` may then be given to MONAI's parser, which runs every import of what it is given.

    Args:
        config: unresolved.
        names: top-level ids of what is to be built.

    Returns:
        One entry each, `"preprocessing#transforms#0 calls 'os.system'"`.
    """
    parts = needed_parts(config, names)
    return [*_unsafe_texts(parts), *_unsafe_components(parts)]


def unusual_code(config: Any) -> list[str]:
    """Name the expressions of a config that do more than compute on references, files' names and the usual libraries.

    A config from outside that passes is not thereby harmless.

    Args:
        config: unresolved.
    """
    return [
        f"{place}: {' '.join(text.split())[:80]}"
        for place, text in _texts(config)
        if text.startswith("$") and _is_unusual(text[1:])
    ]


def _unsafe_texts(parts: Any) -> Iterator[str]:
    for place, text in _texts(parts):
        if text.startswith("$") and text not in SAFE_EXPRESSIONS:
            yield f"{place} runs {' '.join(text.split())[:80]!r}"
        elif text.startswith("%"):
            yield f"{place} copies from elsewhere, {text[:80]!r}"
        elif text.startswith(("@#", "@::")):
            yield f"{place} has the relative reference {text[:80]!r}"


def _unsafe_components(value: Any, place: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield from _unsafe_component(value, place)
        entries: Iterable[tuple[Any, Any]] = value.items()
    else:
        entries = enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from _unsafe_components(entry, f"{place}#{key}" if place else str(key))


def _unsafe_component(component: Mapping[str, Any], place: str) -> Iterator[str]:
    target = component["_target_"]
    home, _, name = str(target).rpartition(".")
    stock = (not home or home.split(".")[0] == "monai") and name in SAFE_TARGETS
    if not isinstance(target, str) or not (stock or target in _OUR_TARGETS):
        yield f"{place} calls {target!r}"
    if not isinstance(component.get("_disabled_", False), bool):
        yield f"{place} has _disabled_ {component['_disabled_']!r}"
    for key in component:
        if str(key).startswith("_") and not str(key).startswith("_desc") and key not in _SAFE_WORDS:
            yield f"{place} has {key}"
    if name == "LoadImaged" and component.get("reader") != _SAFE_READER:
        yield f"{place} has the reader {component.get('reader')!r}"


def _is_unusual(code: str) -> bool:
    """Whether Python code does what no bundle needs; what cannot be parsed does."""
    text = re.sub(r"@\w+(?:(?:#|::)\w+)*", _REFERENCE, code)  # an id may hold what is no Python
    try:
        tree = ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return any(_unusual_node(node) for node in ast.walk(tree))


def _unusual_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] not in _USUAL_IMPORTS for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return str(node.module).split(".")[0] not in _USUAL_IMPORTS
    if isinstance(node, ast.Name):
        return node.id in _UNUSUAL_NAMES
    if isinstance(node, ast.Attribute):
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        allowed = _USUAL_ATTRIBUTES.get(owner)
        if node.attr.startswith("__") or (allowed is not None and node.attr not in allowed):
            return True
        return node.attr in _UNUSUAL_ATTRIBUTES and _root(node) != _REFERENCE
    return False


def _root(node: ast.AST) -> str:
    """The name that a chain of attributes, calls and indices starts with; empty if it is no name."""
    while not isinstance(node, ast.Name):
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return ""
    return node.id


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a config with its id, descriptions too: MONAI runs an import that stands in one."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(entry, f"{place}#{key}" if place else str(key))
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _texts(entry, f"{place}#{number}")
