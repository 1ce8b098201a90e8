"""The record of what a training loss is made of, term by term."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from ignite.engine import Engine

from lap_monai.keys import LOSS

#: Name of the supervised term, the one the engine computes itself.
SUPERVISED = "seg"

# Terms lie flat in the engine's output, because MONAI's decollation copies scalars but not nested dictionaries.
_PREFIX = "loss_"


def iteration_output(engine: Engine) -> dict[str, Any]:
    """Return the dictionary of the current iteration, which Ignite types as a number."""
    return cast("dict[str, Any]", engine.state.output)


def record_term(engine: Engine, name: str, value: torch.Tensor) -> None:
    """Record `value` as the term `name` of the current iteration.

    The first call in an iteration also records the engine's own loss as it then is, so call it before adding to
    `engine.state.output["loss"]`.

    Raises:
        ValueError: if the name is taken; two handlers would overwrite each other's log.
    """
    output = iteration_output(engine)
    output.setdefault(_PREFIX + SUPERVISED, output[LOSS].detach())
    if name == SUPERVISED:
        return
    if _PREFIX + name in output:
        raise ValueError(f"record_term: two handlers log the term {name!r}; give each its own name.")
    output[_PREFIX + name] = value.detach()


def iteration_terms(output: Any) -> dict[str, Any]:
    """Return the total loss and every term of an iteration's output as they lie there; nothing if there is no loss.

    Works on a decollated output too (a list with one mapping per image, which all hold the same scalars).
    """
    first = output[0] if isinstance(output, list) and output else output
    if not isinstance(first, Mapping):
        return {}
    return {name.removeprefix(_PREFIX): value for name, value in first.items() if name.startswith(LOSS)}


def loss_terms(output: Any) -> dict[str, float]:
    """Return the total loss and every term as floats: an `output_transform` for logging handlers.

    It waits for the device; a handler that runs in every iteration sums `iteration_terms` instead.
    """
    return {name: torch.as_tensor(value).item() for name, value in iteration_terms(output).items()}
