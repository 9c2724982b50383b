"""A proxy between client and server that breaks the way at a chosen byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

REQUEST = "request"
REPLY = "reply"


class FaultProxy:
    """Forwards bytes both ways, over any number of connections, until it is told to hurt them.

    Counted bytes are those that arrived from each side, forwarded or not. Every `cut_after_…` counts from the call on,
    over all connections together, works once, and cuts the connection on which the byte passed.

    Args:
        target: `unix://` or `redis://host:port` URL of the server.
        socket_path: listen on this unix socket; without it on a TCP port of 127.0.0.1.
    """

    def __init__(self, target: str, *, socket_path: Path | None = None) -> None:
        self._target = urlsplit(target)
        self._socket_path = socket_path
        self._port = 0
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self._budget: dict[str, int | None] = {REQUEST: None, REPLY: None}
        self._each: dict[str, int] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._dropping = False
        self.delay = 0.0  # seconds for which everything is held back, both ways; `heal` ends it
        self.request_bytes = 0
        self.reply_bytes = 0
        self.accepted = 0

    @property
    def url(self) -> str:
        if self._socket_path is not None:
            return "unix://" + quote(str(self._socket_path))
        return f"redis://127.0.0.1:{self._port}{self._target.path if self._target.scheme != 'unix' else ''}"

    @property
    def listening(self) -> bool:
        return self._listener is not None

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Listen: at the first start, and at the same address again after `refuse`."""
        assert self._listener is None, "the proxy listens already"
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)
            self._listener = await asyncio.start_unix_server(self._connected, str(self._socket_path))
        else:
            self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
            self._port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.refuse()
        self.heal()
        tasks = list(self._connections)
        self.cut_all()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)

    async def __aenter__(self) -> FaultProxy:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def cut_after_request_bytes(self, count: int) -> None:
        """Let `count` more bytes through to the server, then cut. 0: before the next request's first byte."""
        self._budget[REQUEST] = count

    def cut_after_reply_bytes(self, count: int) -> None:
        """Let `count` more bytes through to the client, then cut. 0: the server answered, the client hears nothing."""
        self._budget[REPLY] = count

    def cut_each_connection(self, direction: str, count: int) -> None:
        """Until `heal`, each connection opened from now on is cut after `count` bytes of that direction."""
        self._each[direction] = count

    def drop_replies(self) -> None:
        """From now on the server executes and the client never hears of it; `heal` ends it."""
        self._dropping = True

    def stall(self) -> None:
        """Hold all bytes back, both ways, with the connections open; `resume` lets them go on."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def refuse(self) -> None:
        """Refuse new connections until `start`; open ones stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def cut_all(self) -> None:
        """Cut every open connection."""
        for writers in self._connections.values():
            for writer in writers:
                writer.transport.abort()

    def heal(self) -> None:
        """No more cuts, drops, delays or stalls. Connections already cut stay cut."""
        self._budget = {REQUEST: None, REPLY: None}
        self._each.clear()
        self._dropping = False
        self.delay = 0.0
        self._flowing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._connections[task] = (writer,)
        pumps: list[asyncio.Task[None]] = []
        writers = [writer]
        try:
            server_reader, server_writer = await self._open_target()
            writers.append(server_writer)
            self._connections[task] = (writer, server_writer)
            for one in writers:
                # Nothing stays in our buffer: a cut after n bytes means that n bytes are on their way.
                one.transport.set_write_buffer_limits(high=0)
                link = one.get_extra_info("socket")
                if link is not None and link.family != getattr(socket, "AF_UNIX", None):
                    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pumps = [
                asyncio.ensure_future(self._pump(REQUEST, reader, server_writer)),
                asyncio.ensure_future(self._pump(REPLY, server_reader, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            # No server behind us, or the end of the test: either way this connection is over.
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for one in writers:
                one.close()
            for one in writers:
                with contextlib.suppress(OSError):
                    await one.wait_closed()
            del self._connections[task]

    async def _open_target(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(unquote(self._target.path))
        return await asyncio.open_connection(self._target.hostname, self._target.port or 6379)

    async def _pump(self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Forward until either side ends; the first pump of a connection to return closes both its sides."""
        left = self._each.get(direction, float("inf"))
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if direction == REQUEST:
                    self.request_bytes += len(data)
                else:
                    self.reply_bytes += len(data)
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flowing.wait()
                if direction == REPLY and self._dropping:
                    continue
                budget = self._budget[direction]
                cut = budget is not None and len(data) >= budget
                if budget is not None:
                    data = data[:budget]
                    self._budget[direction] = None if cut else budget - len(data)
                if len(data) >= left:
                    cut, data = True, data[: int(left)]
                left -= len(data)
                sink.write(data)
                await sink.drain()
                if cut:
                    return
