"""Errors of background work: they go to the callbacks of ``on("error")``, or to a log. No I/O; every store has one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from .errors import HelixError, InvalidArgumentError

ErrorCallback = Callable[[HelixError], object]


class BackgroundErrors:
    """The error callbacks of one store.

    Args:
        logger: gets the errors while there are no callbacks; default ``helix_fast``.
    """

    def __init__(self, logger: logging.Logger | None) -> None:
        self._logger = logger if logger is not None else logging.getLogger("helix_fast")
        self._callbacks: list[ErrorCallback] = []

    def on(self, event: Literal["error"], callback: ErrorCallback) -> None:
        """Register a callback.

        Raises:
            InvalidArgumentError: an event other than ``"error"``, or a callback that cannot be called.
        """
        if event != "error":
            raise InvalidArgumentError(f"no event {event!r}; there is only 'error'")
        if not callable(callback):
            raise InvalidArgumentError("callback must be callable")
        self._callbacks.append(callback)

    def report(self, error: HelixError) -> None:
        """Pass an error to all callbacks; without callbacks, write it to the log."""
        if not self._callbacks:
            self._logger.error("%s: %s", type(error).__name__, error)
        for callback in self._callbacks:
            try:
                callback(error)
            except Exception:  # noqa: PERF203  the other callbacks get the error too
                self._logger.exception("an error callback failed")
