"""Checking a config's components against the classes they name, before anything is built."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle import ComponentLocator, ConfigComponent

from lap_monai.checks import UserError, did_you_mean


def check_targets(config: Any) -> None:
    """Refuse a component whose class does not exist or does not take one of its arguments.

    Args:
        config: a merged, unresolved config.

    Raises:
        UserError: naming the component's id and the nearest right name.
    """
    locator = ComponentLocator()  # lists all of MONAI once
    for name, component in components(config):
        target = component["_target_"]
        if isinstance(target, str) and not target.startswith(("$", "@", "%")):
            full_name = ConfigComponent(component, locator=locator).resolve_module_name()
            _check_arguments(name, full_name, component)


def components(config: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield id and content of every component within a config that has the id `name`."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield name, config
        children = [(str(key), value) for key, value in config.items()]
    else:
        children = [(str(key), value) for key, value in enumerate(config)] if isinstance(config, list) else []
    for key, value in children:
        yield from components(value, f"{name}#{key}" if name else key)


def _check_arguments(name: str, target: str, component: Mapping[str, Any]) -> None:
    try:
        found = pydoc.locate(target)
    except pydoc.ErrorDuringImport:
        return  # an optional package is missing: whoever builds the component says so
    if found is None:
        raise UserError(f"{name!r} names {target!r}, which does not exist.{_nearest(target)}")
    arguments = _arguments(found)
    if arguments is None:
        return
    for key in component:
        if key not in ConfigComponent.non_arg_keys and key not in arguments:
            raise UserError(f"{name!r}: {target} takes no argument {key!r}.{did_you_mean(key, arguments)}")


def _arguments(found: Any) -> list[str] | None:
    """Names that a callable takes as keywords; None if it takes any or nobody can say."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY]


def _nearest(target: str) -> str:
    home, _, last = target.rpartition(".")
    module = pydoc.locate(home) if home else None
    if module is None:
        return " Give the full name of something that is installed."
    return did_you_mean(last, (entry for entry in dir(module) if not entry.startswith("_")))
