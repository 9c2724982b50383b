"""The limit of server-sent events on a web server: bytes that are there already, and no work but to send them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import Receive, Scope, Send

HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


class PrebuiltEvents:
    """An ASGI app that sends the same parts to each client.

    Args:
        parts: each sent by one write.
    """

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send all of them."""
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class PrebuiltTimetable:
    """The same event to each client, at set times; the moments of sending are kept, for latencies.

    Args:
        event: what is sent.
        clients: the events of all clients are spread evenly over the period between two of one.
        each: events for each client; the first one is sent at once, and not counted.
        per_second: events a second for each client.
    """

    def __init__(self, event: bytes, clients: int, each: int, per_second: float) -> None:
        self._event = event
        self._clients = clients
        self._each = each
        self._per_second = per_second
        self._begun: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.sent: dict[int, list[float]] = {}

    def begin(self) -> None:
        """The timetable begins now."""
        self._begun.set_result(time.perf_counter() + 0.05)

    async def serve(self, number: int, send: Send) -> None:
        """Serve a client."""
        message: dict[str, Any] = {"type": "http.response.body", "body": self._event, "more_body": True}
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send(message)
        begin = await asyncio.shield(self._begun)
        times = self.sent[number] = []
        for turn in range(self._each):
            wait = begin + (turn + number / self._clients) / self._per_second - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            times.append(time.perf_counter())
            await send(message)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
