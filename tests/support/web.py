"""A web server in the test's process, on a TCP port of its own: uvicorn, as in production."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from helix_fast.testing.waiting import until


class Address(str):
    """The URL of a server, which can cut the connections to it."""

    __slots__ = ("server",)
    server: uvicorn.Server

    def cut(self) -> None:
        """Break all connections, as a network does."""
        for connection in list(self.server.server_state.connections):
            connection.transport.abort()


@contextlib.asynccontextmanager
async def serve(app: Any, **options: Any) -> AsyncIterator[Address]:
    """Serve an ASGI app; gives its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    settings = {"log_level": "warning", "timeout_graceful_shutdown": 5, "lifespan": "on", **options}
    server = uvicorn.Server(uvicorn.Config(app, **settings))
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        await until(lambda: server.started or serving.done())
        address = Address(f"http://127.0.0.1:{listening.getsockname()[1]}")
        address.server = server
        yield address
    finally:
        server.should_exit = True
        await serving
        listening.close()


def events(text: str) -> list[Any]:
    """The data of server-sent events: JSON decoded, ``[DONE]`` as it is."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [data if data == "[DONE]" else json.loads(data) for data in lines]
