"""Merging a bundle's configs, with the checks that MONAI lacks: it takes a misspelled key in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.utils import merge_kv

from lap_monai.checks import UserError, did_you_mean

#: Ids that a workflow itself looks for, so that they need no reference.
_WORKFLOW_IDS = ("imports", "initialize", "run", "finalize")

#: Text that YAML and people take for true or false, but Python for true.
_NEARLY_BOOLEAN = ("yes", "no", "on", "off", "y", "n", "true", "false")


def merge_configs(files: Sequence[str | Path], overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Merge a base config, overlays and overrides as MONAI would, refusing keys that would have no effect.

    A key may be new if it is an argument of a component (`optimizer#weight_decay`), or if something in the merged
    config refers to it.

    Args:
        files: the base first, overlays after it.
        overrides: config id → value, ids with `#` between levels; `+id` appends to a list or an object.

    Returns:
        The merged, still unresolved config.

    Raises:
        UserError: if a file is missing or no JSON/YAML object, a key neither exists in what it is to change nor is
            referred to, or text stands in place of a number, a list or an object.
    """
    if not files:
        raise UserError("No config file given; name the bundle's configs/train.json, for example.")
    layers = [(f"{str(file)!r}", _load(file)) for file in files]
    layers.append(("the command line", dict(overrides or {})))
    (_, base), *overlays = layers
    parser = ConfigParser(config={})
    _merge(parser, base, f"{str(files[0])!r}")
    referred = {reference for _, layer in layers for text in _strings(layer) for reference in _references(text)}
    for origin, overlay in overlays:
        for key in overlay:
            _refuse_unknown(key, parser.config, referred, origin)
            _refuse_text(key, overlay[key], parser.config, origin)
        _merge(parser, overlay, origin)
    return parser.get()


def _load(file: str | Path) -> dict[str, Any]:
    if not Path(file).is_file():
        raise UserError(f"No config file {str(file)!r}; give a file of the bundle's configs folder.")
    try:
        content = ConfigParser.load_config_file(str(file))
    except Exception as error:  # of the file's format, JSON or YAML
        raise UserError(f"The config {str(file)!r} cannot be read: {error}. Mend the file.") from error
    if not isinstance(content, dict):
        raise UserError(f'The config {str(file)!r} is not one object with keys; write {{"key": value}}.')
    return content


def _merge(parser: ConfigParser, layer: Mapping[str, Any], origin: str) -> None:
    for key, value in layer.items():
        try:
            merge_kv(parser, key, value)
        except (ValueError, KeyError, IndexError) as error:
            raise UserError(f"{origin} sets {key!r}, which does not fit the config: {error}") from error


def _refuse_unknown(key: str, config: Any, referred: set[str], origin: str) -> None:
    path = _path(key)
    if path[-1].startswith("_") or _has(config, path) or key in _WORKFLOW_IDS:
        return
    if any(reference[: len(path)] == tuple(path) for reference in map(_path, referred)):
        return
    hint = did_you_mean("#".join(path), _ids(config, len(path)))
    raise UserError(f"{origin} sets {key!r}, which the config does not have.{hint}")


def _refuse_text(key: str, new: Any, config: Any, origin: str) -> None:
    """Refuse `epochs=ten` and `ensure_positives=yes`; an expression or a reference may stand for anything."""
    path = _path(key)
    if not isinstance(new, str) or new.startswith(("$", "@", "%")) or not _has(config, path, strictly=True):
        return
    old = _get(config, path)
    if isinstance(old, bool):
        if new.lower() in _NEARLY_BOOLEAN:
            raise UserError(f"{origin} sets {key!r} to {new!r}; write true or false.")
    elif isinstance(old, (int, float, list, Mapping)):
        kind = "a list" if isinstance(old, list) else "an object" if isinstance(old, Mapping) else "a number"
        raise UserError(f"{origin} sets {key!r} to the text {new!r}, where the config has {kind}.")


def _path(key: str) -> tuple[str, ...]:
    return tuple(part for part in ReferenceResolver.normalize_id(key.removeprefix("+")).split("::") if part) or ("",)


def _has(config: Any, path: Sequence[str], strictly: bool = False) -> bool:
    for part in path:
        if isinstance(config, list):
            if not part.isdigit() or int(part) >= len(config):
                return False
            config = config[int(part)]
        elif isinstance(config, Mapping) and part in config:
            config = config[part]
        else:
            # An argument of a component that the base leaves at its default is a legitimate new key.
            return not strictly and isinstance(config, Mapping) and "_target_" in config and part == path[-1]
    return True


def _get(config: Any, path: Sequence[str]) -> Any:
    for part in path:
        config = config[int(part)] if isinstance(config, list) else config[part]
    return config


def _references(text: str) -> Iterable[str]:
    if text.startswith("%"):  # a macro, which copies what it names
        return [text[1:]]
    return ReferenceResolver.match_refs_pattern(text)


def _strings(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, (Mapping, list)):
        for value in config.values() if isinstance(config, Mapping) else config:
            yield from _strings(value)


def _ids(config: Any, depth: int) -> Iterator[str]:
    """Every id of the config down to `depth` levels, for suggestions."""
    if not isinstance(config, Mapping) or depth == 0:
        return
    for key, value in config.items():
        if not str(key).startswith("_"):
            yield str(key)
            yield from (f"{key}#{below}" for below in _ids(value, depth - 1))
