"""Clients of server-sent events that do as little as a client can: they count events and note when they came.

``python -m benchmarks.event_clients PORT PATH CLIENTS EACH`` is many of them in a process of their own.
"""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import time
from typing import Any, Final

import uvloop

from .probe import PATIENCE

REQUEST: Final = "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
AT_ONCE: Final = 100


class EventClient(asyncio.Protocol):
    """One request. It notes when each event with data came.

    Args:
        path: what is asked for.
        expected: events after which ``complete`` is done.
    """

    def __init__(self, path: str, expected: int) -> None:
        self._path = path
        self._expected = expected
        self._rest = b""
        self.times: list[float] = []
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = loop.create_future()
        self.complete: asyncio.Future[None] = loop.create_future()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = transport
        self._transport.write((REQUEST % self._path).encode())

    def data_received(self, data: bytes) -> None:
        """Count the events in it."""
        now = time.perf_counter()
        *whole, self._rest = (self._rest + data).split(b"\n\n")
        for event in whole:
            if b"\ndata: {" in event:
                self.times.append(now)
        if self.times and not self.first.done():
            self.first.set_result(None)
        if len(self.times) >= self._expected and not self.complete.done():
            self.complete.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        """Too early, unless all are there."""
        for waiting in (self.first, self.complete):
            if not waiting.done():
                told = f"{self._path}: the connection ended after {len(self.times)} events"
                waiting.set_exception(ConnectionError(told))
                waiting.exception()  # those of a thousand clients are one

    def close(self) -> None:
        """Leave."""
        self._transport.abort()


class Download(asyncio.Protocol):
    """One request after the other on one connection, each response kept whole."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._parts: list[bytes] = []
        self._missing: int | None = None  # bytes of the response that are still to come; None: it has chunks
        self._whole: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep it, until the response is complete."""
        if not self._parts:
            head, _, body = data.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2]
            self._missing = int(length.split(b"\r\n")[0]) + len(data) - len(body) if length else None
        self._parts.append(data)
        if self._missing is None:
            complete = data.endswith(b"0\r\n\r\n")
        else:
            self._missing -= len(data)
            complete = self._missing == 0
        if complete and self._whole is not None:
            self._whole.set_result(b"".join(self._parts))

    def connection_lost(self, _error: Exception | None) -> None:
        """Too early, while something is asked for."""
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(ConnectionError("the connection ended within a response"))

    async def get(self, path: str) -> bytes:
        """Ask for a path; the bytes of the response, its head and the marks of its chunks among them."""
        self._parts = []
        self._whole = asyncio.get_running_loop().create_future()
        self._transport.write((REQUEST % path).encode())
        return await asyncio.wait_for(self._whole, PATIENCE)

    def close(self) -> None:
        """Leave."""
        self._transport.abort()


class ClientsProcess:
    """Many clients in a process of their own, seen from the parent. ``path`` has a ``%d`` for the client's number."""

    def __init__(self, port: int, path: str, clients: int, each: int) -> None:
        command = [sys.executable, "-m", "benchmarks.event_clients", str(port), path, str(clients), str(each)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    async def line(self) -> Any:
        """What it tells next: that all have their first event; then when each event came, by client."""
        assert self._process.stdout is not None
        text = await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), 2 * PATIENCE)
        if not text:
            raise ConnectionError("the clients' process has ended")
        return json.loads(text)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def _same(client: EventClient) -> EventClient:
    return client


async def serve_clients(port: int, path: str, count: int, each: int) -> None:
    """Connect, wait for the first event of each, then for all."""
    loop = asyncio.get_running_loop()
    clients: list[EventClient] = []
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(count, first + AT_ONCE))
        made = [EventClient(path % number, each) for number in numbers]
        await asyncio.gather(
            *(loop.create_connection(functools.partial(_same, one), "127.0.0.1", port) for one in made)
        )
        clients += made
    await asyncio.gather(*(client.first for client in clients))
    print(json.dumps(True), flush=True)
    await asyncio.gather(*(client.complete for client in clients))
    print(json.dumps([client.times for client in clients]), flush=True)


if __name__ == "__main__":
    uvloop.run(serve_clients(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
