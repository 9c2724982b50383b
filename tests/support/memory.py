"""A plain client of a server in memory: what is in it, and what a store in another language would put there."""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection

from helix_fast.memory import MemoryServer

CHUNK: dict[str, Any] = {"type": "text_delta", "delta": "x"}
ENTRY: dict[str, Any] = {
    "kind": "custom", "id": "e", "sessionId": "s", "runId": "r", "stepCount": 1, "timestamp": 1,
    "source": {"type": "agent", "name": "a"}, "type": "calls", "value": 1,
}  # fmt: skip


class MemoryConnection(AbstractConnection):
    """A redis-py connection to a server in memory."""

    def __init__(self, *, memory_server: MemoryServer, **options: Any) -> None:
        self._server = memory_server
        super().__init__(**options)

    def repr_pieces(self) -> list[tuple[str, Any]]:
        return [("server", "memory")]

    def _host_error(self) -> str:
        return "memory"

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport = self._server.connect()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self._reader = reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)


def plain_client(server: MemoryServer) -> redis.Redis:
    """A client; the caller closes it."""
    pool = redis.ConnectionPool(connection_class=MemoryConnection, memory_server=server, protocol=2)
    return redis.Redis.from_pool(pool)
