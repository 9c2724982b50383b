"""Connections that lose what a network loses: requests, replies, and requests that arrive much later than thought."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from helix_fast.errors import HelixError, StoreConnectionError
from helix_fast.lua import script
from helix_fast.transport.lane import Frame, OnReply
from helix_fast.transport.observer import Observer
from helix_fast.transport.resolve import topology_for
from helix_fast.transport.topology import Standalone, Subscriptions

LOSE_REQUEST = "lose request"
LOSE_REPLY = "lose reply"
DELAY_REQUEST = "delay request"
PASS = "pass"
ASSISTED = script("streams", "stream_append").sha
FAULTS = (LOSE_REQUEST, LOSE_REPLY, DELAY_REQUEST, PASS)


class FlakyTopology:
    """A server reached over connections on which each append meets the next of the planned `faults`.

    A delayed append is reported as lost at once, and reaches the server when `deliver` is called: as from the socket of
    a connection that was given up, whose bytes were on their way.
    """

    clustered = False
    publish = b"PUBLISH"
    observer: Observer | None = None

    def __init__(self, url: str, *, retry_timeout: float) -> None:
        inner = topology_for(url, timeout=5, retry_timeout=retry_timeout)
        assert isinstance(inner, Standalone)
        self._inner = inner
        self.presence = inner.presence
        self.binding = inner.binding
        self.retry_timeout = retry_timeout
        self.faults: deque[str] = deque()
        self.met = 0
        self._late: list[tuple[str, Frame]] = []

    @property
    def requests(self) -> int:
        return self._inner.requests

    async def ready(self) -> None:
        await self._inner.ready()

    def send(
        self,
        tag: str,
        frame: Frame,
        on_reply: OnReply | None = None,
        *,
        follow: bool = True,
        unparsed: bool = False,
    ) -> None:
        fault = self._next_fault(frame)
        if fault in (LOSE_REQUEST, DELAY_REQUEST):
            if fault == DELAY_REQUEST:
                self._late.append((tag, frame))
            if on_reply is not None:
                asyncio.get_running_loop().call_soon(on_reply, StoreConnectionError(fault))
        elif fault == LOSE_REPLY and on_reply is not None:
            self._inner.send(tag, frame, lambda _reply: on_reply(StoreConnectionError(fault)))
        else:
            self._inner.send(tag, frame, on_reply, unparsed=unparsed)

    async def call(self, tag: str, frame: Frame) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send(tag, frame, lambda reply: None if future.done() else future.set_result(reply))
        reply = await future
        if isinstance(reply, HelixError):
            raise reply
        return reply

    def deliver(self) -> None:
        """Let the delayed appends arrive."""
        late, self._late = self._late, []
        for tag, frame in late:
            self._inner.send(tag, frame)

    def cut(self) -> None:
        """Break the connection of the requests."""
        transport = self._inner.lane._transport
        if transport is not None:
            transport.abort()

    def _next_fault(self, frame: Frame) -> str:
        head = (frame[0] if isinstance(frame, tuple) else frame)[:80]
        if not self.faults or (b"$4\r\nXADD\r\n" not in head and ASSISTED not in head):
            return PASS
        fault = self.faults.popleft()
        self.met += fault != PASS
        return fault

    def generation(self, tag: str) -> int:
        return self._inner.generation(tag)

    def lane_for(self, _tag: str) -> None:
        return None

    def ever_connected(self, tag: str) -> bool:
        return self._inner.ever_connected(tag)

    def server(self, tag: str) -> str:
        return self._inner.server(tag)

    def hub(self, tag: str) -> Subscriptions:
        return self._inner.hub(tag)

    def watch(self, method: Callable[[], None]) -> None:
        self._inner.watch(method)

    def abandon(self) -> None:
        self._inner.abandon()

    async def close(self) -> None:
        await self._inner.close()
