"""The control channel: messages from readers and other processes to the processes that write streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from helix_fast.keys import stream_control
from helix_fast.requests import Requests

from .appender import Appender

STOP: Final = b"stop"
LISTEN: Final = b"listen"
"""A reader has subscribed to a stream. Its writers may have stopped publishing for lack of subscribers."""


def message(what: bytes, detail: bytes, stream_id: str) -> bytes:
    """A message of the channel. The detail may contain line breaks, the id cannot."""
    return b"%b\n%b\n%b" % (what, detail, stream_id.encode())


class ControlChannel:
    """The subscription to the control channel, for the writers of one manager.

    Args:
        requests: the manager's.
        key_prefix: the manager's; each prefix has a channel of its own.
        appenders: those of the manager's open streams, by stream id.
        reconnected: called when messages may be missing.
    """

    def __init__(
        self,
        requests: Requests,
        key_prefix: str,
        appenders: Mapping[str, Appender],
        reconnected: Callable[[], None],
    ) -> None:
        self._requests = requests
        self._channel = stream_control(key_prefix)
        self._appenders = appenders
        self._reconnected = reconnected
        self._hub: object = None
        self._subscribed = False
        self._subscribing = asyncio.Lock()

    async def subscribe(self) -> None:
        """Subscribe, unless that is done already."""
        hub = self._requests.topology.hub("")
        if hub is not self._hub:  # the first one, or that of another event loop
            self._hub, self._subscribed, self._subscribing = hub, False, asyncio.Lock()
        if self._subscribed:
            return
        async with self._subscribing:  # once: else writers that open together would each add a subscription
            if not self._subscribed:
                await self._requests.retrying(lambda: hub.subscribe(self._channel, self), "")
                self._subscribed = True

    def pushed(self, payload: bytes) -> None:
        """A message: what, a line break, a detail, a line break, the stream."""
        what, _, rest = payload.partition(b"\n")
        detail, _, stream_id = rest.rpartition(b"\n")
        appender = self._appenders.get(stream_id.decode(errors="replace"))
        if appender is None:
            return
        if what == STOP:
            appender.stop(detail.decode(errors="replace"))
        elif what == LISTEN:
            self._requests.topology.presence.remote_joined(appender, detail)

    def resync(self) -> None:
        """Messages may be missing: the manager looks after its streams, and subscribers are counted again."""
        self._reconnected()
        self._requests.topology.presence.poll_now(self._appenders.values())
