"""The control channel: what the processes that write streams are told by those that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from helix_fast.keys import stream_control
from helix_fast.store import RedisStore

from .appender import Appender

STOP: Final = b"stop"
LISTEN: Final = b"listen"
"""Somebody has begun to listen to a stream, and the writers may have been silent, since nobody did."""


def message(what: bytes, detail: bytes, stream_id: str) -> bytes:
    """A message of the channel. The detail may hold line breaks, the id cannot."""
    return b"%b\n%b\n%b" % (what, detail, stream_id.encode())


class Control:
    """Listens to the control channel, for the writers of one manager.

    Args:
        store: the manager.
        appenders: those of its open streams.
        hurry: has an appender's stream looked after at once.
    """

    def __init__(self, store: RedisStore, appenders: Mapping[str, Appender], hurry: Callable[[Appender], None]) -> None:
        self._store = store
        self._appenders = appenders
        self._hurry = hurry
        self._hub: object = None
        self._listens = False
        self._beginning = asyncio.Lock()

    async def listen(self) -> None:
        """Begin to listen, where that has not been done yet."""
        hub = self._store.topology.hub("")
        if hub is not self._hub:  # the first one, or that of another event loop
            self._hub, self._listens, self._beginning = hub, False, asyncio.Lock()
        if self._listens:
            return
        async with self._beginning:  # once: a thousand writers that are opened together would hear everything so often
            if not self._listens:
                channel = stream_control(self._store.key_prefix)
                await self._store.retrying(lambda: hub.subscribe(channel, self), "")
                self._listens = True

    def pushed(self, payload: bytes) -> None:
        """What, a line break, a detail, a line break, the stream."""
        what, _, rest = payload.partition(b"\n")
        detail, _, stream_id = rest.rpartition(b"\n")
        appender = self._appenders.get(stream_id.decode(errors="replace"))
        if appender is None:
            return
        if what == STOP:
            appender.stop(detail.decode(errors="replace"))
        elif what == LISTEN:
            self._store.topology.audience.joined(appender, detail)

    def resync(self) -> None:
        """Messages may have been missed: ask about every open stream; about stops together with the next renewal."""
        for appender in self._appenders.values():
            self._hurry(appender)
        self._store.topology.audience.doubt(self._appenders.values())
