"""Connections to a server in memory: a transport that answers on the next turn of the event loop, and its topology."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis

from helix_fast.transport.binding import running_loop
from helix_fast.transport.topology import Standalone

from .keyspace import CommandError, Status

INCOMPLETE = object()


def encode(reply: Any, out: list[bytes]) -> None:
    """Append a reply in RESP2."""
    if isinstance(reply, Status):
        out += (b"+", reply, b"\r\n")
    elif isinstance(reply, bytes):
        out += (b"$%d\r\n" % len(reply), reply, b"\r\n")
    elif reply is None:
        out.append(b"$-1\r\n")
    elif isinstance(reply, int):
        out.append(b":%d\r\n" % reply)
    elif isinstance(reply, CommandError):
        out += (b"-", str(reply).replace("\r", " ").replace("\n", " ").encode(), b"\r\n")
    else:
        out.append(b"*%d\r\n" % len(reply))
        for each in reply:
            encode(each, out)


class MemoryTransport(asyncio.Transport):
    """One connection to a server in memory, from the running event loop.

    Args:
        request: the server's: the replies to a request of this connection.
        leave: the server's: this connection is closed.
    """

    def __init__(
        self,
        request: Callable[[Any, MemoryTransport], list[Any]],
        leave: Callable[[MemoryTransport], None],
    ) -> None:
        super().__init__()
        self._request = request
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.BaseProtocol | None = None
        self._reader = hiredis.Reader(notEnoughData=INCOMPLETE)
        self._out: list[bytes] = []
        self._scheduled = False
        self._closing = False
        self.channels: set[tuple[bool, bytes]] = set()
        """Channels subscribed to: (whether the channel is sharded, its name)."""

    @property
    def gone(self) -> bool:
        """Whether its event loop was closed: the connection will never be closed or read from."""
        return self._loop.is_closed()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the receiver of replies."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The receiver of replies."""
        assert self._protocol is not None
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Ignored: nothing waits to be written here."""

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be written: none."""
        return 0

    def is_closing(self) -> bool:
        """Whether it was closed, or the server broke it off."""
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Run the requests in ``data``, now; the replies follow on the next turn of the loop."""
        if self._closing:
            return
        self._reader.feed(bytes(data))
        replies: list[bytes] = []
        while (request := self._reader.gets()) is not INCOMPLETE:
            for reply in self._request(request, self):
                encode(reply, replies)
        self._deliver(replies)

    def push(self, message: list[bytes]) -> None:
        """Deliver a message of a channel; called from the publisher's thread."""
        frame: list[bytes] = []
        encode(message, frame)
        if running_loop() is self._loop:
            self._deliver(frame)
        elif not self.gone:
            self._loop.call_soon_threadsafe(self._deliver, frame)

    def _deliver(self, frames: list[bytes]) -> None:
        self._out += frames
        if self._out and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        data, self._out = b"".join(self._out), []
        if not self._closing and isinstance(self._protocol, asyncio.Protocol):
            self._protocol.data_received(data)

    def close(self) -> None:
        """End the connection."""
        self._end(None)

    def abort(self) -> None:
        """End the connection."""
        self._end(None)

    def break_off(self) -> None:
        """The server ends the connection, from any thread; replies that are on their way are lost."""
        self._end(ConnectionResetError("the server in memory was restarted"))

    def _end(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._leave(self)
        if self._protocol is None or self.gone:
            return
        call = self._loop.call_soon if running_loop() is self._loop else self._loop.call_soon_threadsafe
        call(self._protocol.connection_lost, error)


class MemoryConnection:
    """Stands where a Link expects a connection that redis-py made, and takes the transport from."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self._reader: Any = None
        self._writer: Any = self


class MemoryTopology(Standalone):
    """Lane and hub to a server in memory.

    Args:
        connector: makes a transport.
        timeout, retry_timeout: seconds; see ``connect``.
    """

    def __init__(self, connector: Callable[[], MemoryTransport], *, timeout: float, retry_timeout: float) -> None:
        async def connect() -> MemoryConnection:
            return MemoryConnection(connector())

        super().__init__(connect, "memory://", timeout=timeout, retry_timeout=retry_timeout)
