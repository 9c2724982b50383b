"""The way to a MemoryServer: an asyncio transport that answers what is written to it, on the next turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import hiredis

from .keyspace import CommandError, Status

if TYPE_CHECKING:
    from .server import MemoryServer

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
    """One connection to a server in memory, from one event loop."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__()
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.BaseProtocol | None = None
        self._reader = hiredis.Reader(notEnoughData=INCOMPLETE)
        self._out: list[bytes] = []
        self._scheduled = False
        self._closing = False
        self.channels: set[tuple[bool, bytes]] = set()
        """What it hears: (whether the channel is sharded, its name)."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who gets the replies."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who gets the replies."""
        assert self._protocol is not None
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits to be written here."""

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be written: none."""
        return 0

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Run the requests in ``data``, now; the replies follow on the next turn of the loop."""
        if self._closing:
            return
        self._reader.feed(bytes(data))
        replies: list[bytes] = []
        while (request := self._reader.gets()) is not INCOMPLETE:
            encode_all(self._server.request(request, self), replies)
        self._deliver(replies)

    def push(self, message: list[bytes]) -> None:
        """A message of a channel; from whatever thread it was published in."""
        frame: list[bytes] = []
        encode(message, frame)
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._deliver(frame)
        elif not self._loop.is_closed():
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
        """Hear no more, answer no more."""
        if not self._closing:
            self._closing = True
            self._server.unsubscribe_all(self)
            if self._protocol is not None and not self._loop.is_closed():
                self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """The same."""
        self.close()


def encode_all(replies: Iterable[Any], out: list[bytes]) -> None:
    """Append replies in RESP2."""
    for reply in replies:
        encode(reply, out)


class MemoryConnection:
    """What a Link takes its transport from, in the place of a connection that redis-py made."""

    def __init__(self, server: MemoryServer) -> None:
        self.transport = MemoryTransport(server)
        self._reader: Any = None
        self._writer: Any = self
