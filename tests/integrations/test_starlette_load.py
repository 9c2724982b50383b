"""Server-sent events where clients do not read, or many have one stream. Of a web server: test_starlette_server."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
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
from tests.support.sse import RETRY, SECONDS, Connection, reading


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
