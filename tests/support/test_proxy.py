"""The fault proxy does what it says: each fault, seen from the client and from the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis

from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.proxy import FaultProxy

pytestmark = pytest.mark.slow

SET = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"
GET = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
OK = b"+OK\r\n"


class Raw:
    """A bare connection: what it sends and hears is exactly what passes the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes) -> bytes:
        """Send, and read what comes until the expected reply is whole, or the connection ends."""
        self.writer.write(data)
        try:
            return await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 5)
        except asyncio.IncompleteReadError as short:
            return short.partial

    async def rest(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 5)
        return b""


@contextlib.asynccontextmanager
async def raw(proxy: FaultProxy) -> AsyncIterator[Raw]:
    path = proxy.url.removeprefix("unix://")
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def direct(url: str) -> AsyncIterator[redis.Redis]:
    client = redis.Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


async def stored(url: str) -> bytes | None:
    async with direct(url) as client:
        value = await client.get("k")
        assert not isinstance(value, str)
        return value


async def test_passes_bytes_both_ways_and_counts_them(fault_proxy: FaultProxy) -> None:
    async with raw(fault_proxy) as one, raw(fault_proxy) as two:
        assert await one.ask(SET) == OK
        assert await two.ask(SET) == OK
        assert fault_proxy.request_bytes == 2 * len(SET)
        assert fault_proxy.reply_bytes == 2 * len(OK)
        assert fault_proxy.open_connections == fault_proxy.accepted == 2
    await until(lambda: fault_proxy.open_connections == 0, what="the end of the connections")


async def test_cut_before_a_request_leaves_the_server_untouched(fault_proxy: FaultProxy, server_url: str) -> None:
    fault_proxy.cut_after_request_bytes(0)
    async with raw(fault_proxy) as client:
        assert await client.ask(SET) == b""
    assert await stored(server_url) is None


async def test_cut_inside_a_request_leaves_the_server_untouched(fault_proxy: FaultProxy, server_url: str) -> None:
    fault_proxy.cut_after_request_bytes(len(SET) - 1)
    async with raw(fault_proxy) as client:
        assert await client.ask(SET) == b""
    assert await stored(server_url) is None


async def test_cut_inside_the_second_request_executes_the_first(fault_proxy: FaultProxy, server_url: str) -> None:
    fault_proxy.cut_after_request_bytes(len(SET) + 5)
    async with raw(fault_proxy) as client:
        assert await client.ask(SET) == OK
        assert await client.ask(GET) == b""
    assert await stored(server_url) == b"v"


async def test_cut_after_a_request_executes_it(fault_proxy: FaultProxy, server_url: str) -> None:
    fault_proxy.cut_after_request_bytes(len(SET))
    async with raw(fault_proxy) as client:
        client.writer.write(SET)
        assert await client.rest() in (b"", OK)
    async with direct(server_url) as check:
        for _ in range(200):
            if await check.get("k") == b"v":
                return
            await asyncio.sleep(0.01)
    pytest.fail("the whole request had passed, and was not executed")


@pytest.mark.parametrize("count", [0, 2, len(OK)])
async def test_cut_within_a_reply_comes_after_execution(fault_proxy: FaultProxy, server_url: str, count: int) -> None:
    fault_proxy.cut_after_reply_bytes(count)
    async with raw(fault_proxy) as client:
        client.writer.write(SET)
        assert await client.rest() == OK[:count]
    assert await stored(server_url) == b"v"


async def test_a_cut_happens_once(fault_proxy: FaultProxy) -> None:
    fault_proxy.cut_after_reply_bytes(0)
    async with raw(fault_proxy) as client:
        assert await client.ask(SET) == b""
    async with raw(fault_proxy) as client:
        assert await client.ask(SET) == OK


async def test_dropped_replies_are_never_heard_though_executed(fault_proxy: FaultProxy, server_url: str) -> None:
    fault_proxy.drop_replies()
    async with raw(fault_proxy) as client:
        client.writer.write(SET)
        await until(lambda: fault_proxy.reply_bytes == len(OK), what="the server's answer")
        assert await stored(server_url) == b"v"
        fault_proxy.heal()
        assert await client.ask(b"PING\r\n") == b"+PONG\r\n", "a dropped reply was only late"


async def test_stalled_bytes_wait_and_then_arrive(fault_proxy: FaultProxy, server_url: str) -> None:
    async with raw(fault_proxy) as client:
        fault_proxy.stall()
        client.writer.write(SET)
        await until(lambda: fault_proxy.request_bytes == len(SET), what="the request at the proxy")
        assert await stored(server_url) is None
        fault_proxy.resume()
        assert await client.ask(b"") == OK


async def test_refuse_keeps_open_connections_and_starts_again_at_its_address(fault_proxy: FaultProxy) -> None:
    async with raw(fault_proxy) as client:
        assert await client.ask(SET) == OK
        fault_proxy.refuse()
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_unix_connection(fault_proxy.url.removeprefix("unix://"))
        assert await client.ask(SET) == OK
        await fault_proxy.start()
        async with raw(fault_proxy) as later:
            assert await later.ask(SET) == OK


async def test_cut_all_ends_every_connection(fault_proxy: FaultProxy) -> None:
    async with raw(fault_proxy) as one, raw(fault_proxy) as two:
        assert await one.ask(SET) == await two.ask(SET) == OK
        fault_proxy.cut_all()
        assert await one.rest() == await two.rest() == b""


async def test_tcp_proxy_survives_its_server(fresh_server: ServerProcess) -> None:
    async with FaultProxy(fresh_server.url) as proxy, direct(proxy.url) as client:
        assert await client.set("k", "v")
        fresh_server.kill()
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            await client.get("k")
        await fresh_server.start()
        assert await client.get("k") is None


async def test_restart_keeps_address_and_directory(short_path: Path) -> None:
    server = ServerProcess(short_path, tcp=True, options={"appendonly": "yes"})
    await server.start()
    try:
        url, port = server.url, server.port
        assert server.ask(b"SET k v") == OK
        server.kill()
        assert not server.running
        await server.restart()
        assert (server.url, server.port) == (url, port)
        assert server.ask(b"GET k") == b"$1\r\nv\r\n"
    finally:
        await server.stop()


async def test_a_paused_server_takes_connections_and_is_silent(fresh_server: ServerProcess) -> None:
    fresh_server.pause()
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(fresh_server.ask, b"PING", timeout=0.2)
    fresh_server.resume()
    assert fresh_server.ask(b"PING") == b"+PONG\r\n"
