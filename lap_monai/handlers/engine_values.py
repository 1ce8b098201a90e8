"""How handlers find, by name, what a loss needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine
from torch import Tensor

from lap_monai.checks import did_you_mean


def engine_values(engine: Engine, names: Sequence[str]) -> list[Any]:
    """Return the named values of the current iteration, tensors on the engine's device.

    A name is looked up in `engine.state` (where `UnpackOutputs` leaves embeddings), then in the iteration's output
    (where the engine leaves predictions and labels), then in the batch as the loader made it.

    Raises:
        KeyError: naming what is missing and what there is.
    """
    device = vars(engine.state)["device"]
    return [_on_device(_find(engine, name), device) for name in names]


def _find(engine: Engine, name: str) -> Any:
    candidates: list[Any] = [vars(engine.state), engine.state.output, engine.state.batch]
    sources: list[dict] = [source for source in candidates if isinstance(source, dict)]
    for source in sources:
        if name in source:
            return source[name]
    known = [key for source in sources[1:] for key in source]
    raise KeyError(f"no {name!r} in the engine's state, output or batch.{did_you_mean(name, known)}")


def _on_device(value: Any, device: Any) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
