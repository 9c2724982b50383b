"""Server-sent events where clients do not read, or the web server shuts down."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from helix_fast import Helix, codec, connect
from helix_fast.integrations.ag_ui_events import AGUIEvents
from helix_fast.integrations.ag_ui_mapping import AGUIMapping
from helix_fast.integrations.chats import follow, plain_text
from helix_fast.integrations.sse import WRITE_BYTES, EventCodec, EventStream
from helix_fast.integrations.starlette import HelixEvents
from helix_fast.integrations.vercel_chunks import VercelEvents
from helix_fast.integrations.vercel_mapping import VercelMapping
from helix_fast.streams.lines import LineReader
from helix_fast.streams.schema import StreamPosition
from helix_fast.testing.waiting import until
from tests.support.sse import RETRY, SECONDS, Connection, reading, write


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url) as stores:
        yield stores


async def test_a_long_page_is_sent_in_parts(helix: Helix) -> None:
    sizes: list[int] = []

    async def send(message: Any) -> None:
        sizes.append(len(message.get("body", b"")))

    async def receive() -> Any:
        await asyncio.Event().wait()

    async with await helix.streams.create_writer("s", "agent") as writer:
        for _ in range(100):
            writer.send_text("x" * 10_000)
    await helix.streams.end_stream("s")
    connection = Connection(helix.streams, "/s")
    assert len(await connection.all()) == 101
    await connection.app(connection.scope, receive, send)
    assert sum(sizes) > 1_000_000
    assert max(sizes) < WRITE_BYTES + 11_000


async def test_clients_that_never_read_hold_little_and_leave_nothing(helix: Helix) -> None:
    """Their log has full batches of 64 KiB, a page of which took 6 to 14 MB for each of them."""
    clients, held = 20, 512 << 10
    async with await helix.streams.create_writer("s", "agent") as writer:
        for _ in range(100_000):
            writer.send_text("token ")
    info = await helix.streams.get_info("s")
    assert info is not None
    sent = 0

    async def send(message: Any) -> None:
        nonlocal sent
        if message.get("body", RETRY.encode()).startswith(b"id: "):
            sent += 1
            await asyncio.Event().wait()

    async def serve() -> None:
        connection = Connection(helix.streams, "/s")
        connection.task.cancel()
        await connection.app(connection.scope, connection._receive, send)

    await helix.streams.end_stream("s")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        serving = [asyncio.ensure_future(serve()) for _ in range(clients)]
        await until(lambda: sent == clients)
        assert tracemalloc.get_traced_memory()[0] - before < clients * held
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        del serving, task
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < held
    finally:
        tracemalloc.stop()
    assert reading(helix) == 0


SERVED = """
import asyncio, contextlib, os
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from helix_fast import connect
from helix_fast.integrations.starlette import event_stream

@contextlib.asynccontextmanager
async def lifespan(app):
    async with connect(os.environ["HELIX_URL"]) as app.state.helix:
        yield

async def events(request):
    return await event_stream(request, request.app.state.helix.streams, "s")

app = Starlette(routes=[Route("/", events)], lifespan=lifespan)
uvicorn.run(app, uds=os.environ["SOCKET"], log_level="warning")
"""


@pytest.mark.slow
async def test_uvicorn_does_not_wait_for_clients_that_listen(helix: Helix, server_url: str, short_path: Path) -> None:
    pytest.importorskip("uvicorn")
    await write(helix, "a")
    socket = short_path / "http.sock"
    environment = {**os.environ, "HELIX_URL": server_url, "SOCKET": str(socket)}
    server = subprocess.Popen([sys.executable, "-c", SERVED], env=environment, stderr=subprocess.PIPE)
    try:
        await until(socket.exists, seconds=SECONDS)
        reader, writer = await asyncio.open_unix_connection(str(socket))
        writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"data" in await asyncio.wait_for(reader.readuntil(b'"delta"'), SECONDS)
        server.terminate()
        # without a timeout for shutdowns uvicorn would wait for this client
        assert (await asyncio.wait_for(reader.read(), SECONDS)).endswith(b"0\r\n\r\n"), "the response is complete"
        _, errors = await asyncio.to_thread(server.communicate, None, SECONDS)
        assert errors == b""
        writer.close()
    finally:
        server.kill()


@pytest.mark.parametrize("protocol", ["helix", "vercel", "ag-ui"])
async def test_entry_is_framed_once_for_all_clients_of_its_stream(
    helix: Helix, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients, chunks = 20, 30
    framed: list[bytes] = []
    name = "frame_events" if protocol == "helix" else "frame_deltas"
    frame = getattr(codec, name)
    monkeypatch.setattr(codec, name, lambda *arguments: framed.append(b"") or frame(*arguments))

    async def make() -> EventStream:
        if protocol == "helix":
            return EventStream(read, StreamPosition("", 0), HelixEvents(), heartbeat=60)
        if protocol == "vercel":
            events: EventCodec = VercelEvents(7, plain_text, mapping=VercelMapping(7, "m"))
        else:
            events = AGUIEvents("0" * 16, plain_text, mapping=AGUIMapping("t", "r"))
        response = await follow(helix.streams, "s", events, heartbeat=60)
        assert response is not None
        return response

    def read(position: StreamPosition) -> LineReader:
        return LineReader(helix.streams._cursor("s", position, None, "raise", 0))

    async with await helix.streams.create_writer("s", "agent") as writer:
        await writer.write({"type": "text_delta", "delta": "0", "agentId": "agent", "timestamp": 1})
        responses = [Received(await make()) for _ in range(clients)]
        await until(lambda: all('"delta":"0"' in one.text for one in responses))
        framed.clear()
        for number in range(1, chunks + 1):
            writer.send_text(f"{number};")
            await until(lambda number=number: all(f'"{number};"' in one.text for one in responses))
        assert len(framed) <= 2 * chunks, "not once for each client"
    await helix.streams.end_stream("s")
    await asyncio.wait_for(asyncio.gather(*(one.task for one in responses)), SECONDS)
    assert len({one.text for one in responses}) == 1


class Received:
    """A response, sent to nobody: its text."""

    def __init__(self, response: EventStream) -> None:
        self.text = ""
        self.task = asyncio.ensure_future(response({"type": "http", "method": "GET"}, self._receive, self._send))

    async def _receive(self) -> Any:
        await asyncio.Event().wait()

    async def _send(self, message: Any) -> None:
        self.text += message.get("body", b"").decode()
