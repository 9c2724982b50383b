"""What closed appenders had acknowledged, kept for a while: a loss is named also where its writer has closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from helix_fast.errors import HelixError

from .appender import Appender

AT_ONCE: Final = 32


class LossMemory:
    """The closed appenders of one manager, for some seconds.

    Args:
        seconds: for which each is remembered; 0: none is.
        report: gets errors of the checks.
    """

    def __init__(self, seconds: float, report: Callable[[HelixError], None]) -> None:
        self._seconds = seconds
        self._report = report
        self._kept: dict[str, tuple[Appender, float]] = {}
        self._checking: asyncio.Task[None] | None = None

    def keep(self, appender: Appender) -> None:
        """Remember an appender that was closed."""
        if not self._seconds:
            return
        before = self.take(appender.stream_id)
        if before is not None:
            if before.terms.current > appender.terms.current:
                before, appender = appender, before  # a writer that was taken over closes last
            appender.merge(before)
        now = asyncio.get_running_loop().time()
        self._kept[appender.stream_id] = (appender, now + self._seconds)
        for stream_id, (_appender, until) in list(self._kept.items()):
            if until > now:
                break  # they are in the order in which they were closed
            del self._kept[stream_id]

    def get(self, stream_id: str) -> Appender | None:
        """The appender that was closed last, if it is remembered."""
        kept = self._kept.get(stream_id)
        return kept[0] if kept is not None else None

    def take(self, stream_id: str) -> Appender | None:
        """As ``get``; it is forgotten here."""
        kept = self._kept.pop(stream_id, None)
        return kept[0] if kept is not None else None

    def check(self) -> None:
        """After a reconnection: look for what they had acknowledged."""
        if self._kept and (self._checking is None or self._checking.done()):
            self._checking = asyncio.get_running_loop().create_task(self._check(), name="check closed streams")

    async def _check(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [appender for appender, until in self._kept.values() if until > now]
        for at in range(0, len(due), AT_ONCE):
            found = await asyncio.gather(
                *(appender.look() for appender in due[at : at + AT_ONCE]), return_exceptions=True
            )
            for error in found:
                if isinstance(error, HelixError):
                    self._report(error)

    async def close(self) -> None:
        """Forget them."""
        self._kept.clear()
        task, self._checking = self._checking, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
