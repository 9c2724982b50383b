"""Many open event streams of a web server in a process of its own: it shuts down, clients vanish or do not read."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from helix_fast import Helix, connect
from helix_fast.testing.waiting import until
from tests.support.sse import SECONDS, write

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow
many = pytest.mark.parametrize("clients", [100, pytest.param(1_000, marks=pytest.mark.thorough)])
SERVED = """
import contextlib, os
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from helix_fast import connect
from helix_fast.integrations.chats import follow, plain_text
from helix_fast.integrations.starlette import event_stream
from helix_fast.integrations.vercel_chunks import VercelEvents
from helix_fast.integrations.vercel_mapping import VercelMapping

@contextlib.asynccontextmanager
async def lifespan(app):
    async with connect(os.environ["HELIX_URL"]) as app.state.helix:
        yield

async def events(request):
    return await event_stream(request, request.app.state.helix.streams, request.path_params["stream"])

async def vercel(request):
    streams, events = request.app.state.helix.streams, VercelEvents(7, plain_text, mapping=VercelMapping(7, "m"))
    return await follow(streams, request.path_params["stream"], events)

app = Starlette(routes=[Route("/vercel/{stream}", vercel), Route("/{stream}", events)], lifespan=lifespan)
uvicorn.run(app, uds=os.environ["SOCKET"], log_level="warning")
"""


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url) as stores:
        yield stores


class Web:
    """The server's process, and connections to it."""

    def __init__(self, socket: Path, process: subprocess.Popen[bytes]) -> None:
        self._socket = str(socket)
        self.process = process
        self.seen = psutil.Process(process.pid)

    async def open(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that has its first chunk."""
        reader, writer = await asyncio.open_unix_connection(self._socket, limit=1 << 16)
        writer.write(b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % path.encode())
        await asyncio.wait_for(reader.readuntil(b'"delta":'), SECONDS)
        return reader, writer

    async def open_many(self, path: str, count: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """As many, a hundred at once."""
        found = []
        for first in range(0, count, 100):
            found += await asyncio.gather(*(self.open(path) for _ in range(min(100, count - first))))
        return found


@pytest.fixture
async def web(server_url: str, short_path: Path) -> AsyncIterator[Web]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limit[1]), limit[1]))
    socket = short_path / "http.sock"
    environment = {**os.environ, "HELIX_URL": server_url, "SOCKET": str(socket)}
    process = subprocess.Popen([sys.executable, "-c", SERVED], env=environment, stderr=subprocess.PIPE)
    try:
        await until(socket.exists, seconds=SECONDS)
        yield Web(socket, process)
    finally:
        process.kill()
        process.communicate()
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


@many
@pytest.mark.parametrize("path", ["/s", "/vercel/s"])
async def test_shutdown_does_not_wait_for_clients_that_listen(helix: Helix, web: Web, path: str, clients: int) -> None:
    """Without a timeout for shutdowns uvicorn would wait for each of them."""
    await write(helix, "a")
    opened = await web.open_many(path, clients)
    web.process.terminate()
    endings = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in opened)), SECONDS)
    # an EventSource reconnects after a complete response, useChat would take it for the whole answer
    assert {ending.endswith(b"0\r\n\r\n") for ending in endings} == {path == "/s"}
    _, errors = await asyncio.to_thread(web.process.communicate, None, SECONDS)
    assert errors == b""
    for _, writer in opened:
        writer.close()


@many
async def test_clients_that_vanish_give_back_descriptors_and_memory(helix: Helix, web: Web, clients: int) -> None:
    await write(helix, "a")
    await web.open("/s")
    descriptors = web.seen.num_fds()
    used: list[int] = []
    for _ in range(4):
        opened = await web.open_many("/s", clients)
        assert web.seen.num_fds() >= descriptors + clients
        used.append(web.seen.memory_info().rss)
        for _reader, writer in opened:
            writer.transport.abort()
        await until(lambda: web.seen.num_fds() <= descriptors, seconds=SECONDS)
    growth = min(after - before for before, after in itertools.pairwise(used))
    assert growth < clients * 4_096, "a wave takes the memory of the one before"


async def test_clients_that_do_not_read_cost_a_bounded_buffer_and_nobody_else_a_chunk(helix: Helix, web: Web) -> None:
    stalled_clients, chunks, text = 20, 200, "x" * 50_000
    async with await helix.streams.create_writer("s", "agent", max_length=50) as writer:
        await writer.write({"type": "text_delta", "delta": "a"})
        stalled = await web.open_many("/s", stalled_clients)
        for _reader, stalled_one in stalled:
            stalled_one.transport.pause_reading()  # type: ignore[attr-defined]
        reader, connection = await web.open("/s")
        before = web.seen.memory_info().rss
        for number in range(chunks):  # the next one is written when the client that reads has this one
            await writer.write({"type": "text_delta", "delta": f"{number} {text}"})
            await asyncio.wait_for(_read_past(reader, b'"%d xxx' % number), SECONDS)
        # 10 MB were sent to each: held are a page of the log, what is being sent, and pushes up to 1 MiB
        assert web.seen.memory_info().rss - before < stalled_clients * (4 << 20)
        for _reader, open_one in (*stalled, (reader, connection)):
            open_one.transport.abort()


async def _read_past(reader: asyncio.StreamReader, text: bytes) -> None:
    """Read until the text has come, and what follows it in the same chunk."""
    rest = b""
    while text not in rest:
        with contextlib.suppress(asyncio.LimitOverrunError):
            data = await reader.read(1 << 16)
            assert data, "the response has ended"
            rest = rest[-len(text) :] + data
