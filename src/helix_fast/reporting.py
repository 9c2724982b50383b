"""Where errors of background work go: to the callbacks of ``on("error")``, or to a log. Pure; every store has it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .errors import HelixError, InvalidArgumentError

ErrorCallback = Callable[[HelixError], object]


class ErrorReporting:
    """``on`` and ``report`` of a store.

    Args:
        logger: where errors go that nobody listens for; default ``helix_fast``.
    """

    def __init__(self, logger: logging.Logger | None) -> None:
        self._logger = logger if logger is not None else logging.getLogger("helix_fast")
        self._callbacks: list[ErrorCallback] = []

    def on(self, event: str, callback: ErrorCallback) -> None:
        """Register ``callback(error)`` for errors of background work; ``event`` is ``"error"``, the only one.

        Raises:
            InvalidArgumentError: another event, or nothing that can be called.
        """
        if event != "error":
            raise InvalidArgumentError(f"no event {event!r}; there is only 'error'")
        if not callable(callback):
            raise InvalidArgumentError("callback must be callable")
        self._callbacks.append(callback)

    def report(self, error: HelixError) -> None:
        """Hand an error of background work to the callbacks, or to the log where there is none."""
        if not self._callbacks:
            self._logger.error("%s: %s", type(error).__name__, error)
        for callback in self._callbacks:
            try:
                callback(error)
            except Exception:  # noqa: PERF203  one callback must not keep the error from the others
                self._logger.exception("an error callback failed")
