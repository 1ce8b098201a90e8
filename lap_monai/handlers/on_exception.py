"""Learning that a run dies, without hiding it and without being hidden."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ignite.engine import Engine, Events

logger = logging.getLogger(__name__)


Callback = Callable[[Engine, BaseException], None]


def on_exception(engine: Engine, callback: Callback) -> None:
    """Call `callback(engine, error)` once for every error, Ctrl-C included, that ends a run of `engine`.

    Ignite alone does not serve: it swallows the error when a handler of `EXCEPTION_RAISED` returns, skips the handlers
    behind one that raises (MONAI's `StatsHandler` and `CheckpointSaver` do), and fires the event twice for errors in an
    iteration. Here callbacks come before all such handlers, in the order of this function's calls; an error in one is
    only logged, the others still get their turn, and the run's error is raised in the end.
    """
    handlers = engine._event_handlers[Events.EXCEPTION_RAISED]
    watch = next((entry[0] for entry in handlers if isinstance(entry[0], _Watch)), None)
    if watch is None:
        watch = _Watch()
        engine.add_event_handler(Events.EXCEPTION_RAISED, watch)
        handlers.insert(0, handlers.pop())
    watch.callbacks.append(callback)


class _Watch:
    """The one handler of `EXCEPTION_RAISED` that serves all callbacks of an engine."""

    def __init__(self) -> None:
        self.callbacks: list[Callback] = []
        self._seen: BaseException | None = None

    def __call__(self, engine: Engine, error: BaseException) -> None:
        if self._seen is not error:
            self._seen = error
            for callback in self.callbacks:
                _call(callback, engine, error)
        handlers = engine._event_handlers[Events.EXCEPTION_RAISED]
        if handlers[-1][0] is not _raise:
            engine.add_event_handler(Events.EXCEPTION_RAISED, _raise)  # Ignite's loop over the list reaches it last


def _call(callback: Callback, engine: Engine, error: BaseException) -> None:
    try:
        callback(engine, error)
    except Exception:
        logger.exception("A handler failed while the run was ending with %r.", error)


def _raise(_engine: Engine, error: BaseException) -> None:
    raise error
