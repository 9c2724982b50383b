"""A server that refuses, loads, pauses or stops: typed errors in time, and nothing lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from helix_fast.errors import StoreConnectionError, StoreResponseError, StoreTimeoutError
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.streams_under_fault import collect_errors, logged, storage, text

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]


async def test_out_of_memory_is_told_after_the_retry_time_and_stores_nothing(
    fresh_server: ServerProcess,
) -> None:
    async with storage(fresh_server.url, retry_timeout=0.4) as store:
        writer = await store.create_writer("s", "agent")
        await writer.write(text("a"))
        await store._requests.command("", b"CONFIG", b"SET", b"maxmemory", 1)
        started = time.monotonic()
        with pytest.raises(StoreResponseError) as refused:
            await writer.write(text("b"))
        assert time.monotonic() - started > 0.35
        assert refused.value.server_code == "OOM"
        writer.send_text("c")
        writer.send_text("d")
        with pytest.raises(StoreResponseError):
            await writer.flush()
        assert await logged(store, "s") == ["a"], "reading goes on"
        await store._requests.command("", b"CONFIG", b"SET", b"maxmemory", 0)
        await writer.flush()
        assert await logged(store, "s") == ["a", "c", "d"], "a write that was told to have failed is not stored later"


async def test_what_nobody_waits_for_is_reported_once_and_stored_when_the_server_takes_it(
    fresh_server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helix_fast.streams.appender.RETRY_SECONDS", 0.02)
    async with storage(fresh_server.url, retry_timeout=0.1) as store:
        errors = collect_errors(store)
        writer = await store.create_writer("s", "agent")
        await store._requests.command("", b"CONFIG", b"SET", b"maxmemory", 1)
        writer.send_text("a")
        await until(lambda: bool(errors), what="the report")
        writer.send_text("b")
        await asyncio.sleep(0.5)  # it is tried again some times
        assert [getattr(error, "server_code", "") for error in errors] == ["OOM"], (
            "once, until something is stored again"
        )
        await store._requests.command("", b"CONFIG", b"SET", b"maxmemory", 0)
        await until(lambda: writer.buffered_bytes == 0, what="what was sent to be stored")
        assert await logged(store, "s") == ["a", "b"]


async def test_what_someone_waited_for_is_not_reported_again(fresh_server: ServerProcess) -> None:
    async with storage(fresh_server.url, retry_timeout=0.1) as store:
        errors = collect_errors(store)
        writer = await store.create_writer("s", "agent")
        await store._requests.command("", b"CONFIG", b"SET", b"maxmemory", 1)
        writer.send_text("a")
        with pytest.raises(StoreResponseError):
            await writer.flush()
        assert not errors
        await store._requests.command("", b"CONFIG", b"SET", b"maxmemory", 0)
        await writer.close()


async def test_memory_freed_within_the_retry_time_is_not_noticed(fresh_server: ServerProcess) -> None:
    async with storage(fresh_server.url) as store:
        writer = await store.create_writer("s", "agent")
        await store._requests.command("", b"CONFIG", b"SET", b"maxmemory", 1)
        writing = asyncio.ensure_future(writer.write(text("a")))
        await asyncio.sleep(0.1)
        assert not writing.done()
        await store._requests.command("", b"CONFIG", b"SET", b"maxmemory", 0)
        assert await writing == 1


async def test_read_only_server_is_waited_for(fresh_server: ServerProcess, short_path: Path) -> None:
    """As while a failover is under way: a replica refuses to write until it is made the primary."""
    async with storage(fresh_server.url) as store:
        writer = await store.create_writer("s", "agent")
        await writer.write(text("a"))
        await store._requests.command("", b"REPLICAOF", b"127.0.0.1", 1)
        writing = asyncio.ensure_future(writer.write(text("b")))
        await asyncio.sleep(0.1)
        assert not writing.done()
        assert fresh_server.ask(b"REPLICAOF NO ONE").startswith(b"+OK")
        assert await writing == 2
        assert await logged(store, "s") == ["a", "b"]


async def test_read_only_server_is_given_up_after_the_retry_time(fresh_server: ServerProcess) -> None:
    async with storage(fresh_server.url, retry_timeout=0.2) as store:
        writer = await store.create_writer("s", "agent")
        await store._requests.command("", b"REPLICAOF", b"127.0.0.1", 1)
        chunk = text("a")
        with pytest.raises((StoreResponseError, StoreConnectionError)):
            await writer.write(chunk)
        with pytest.raises((StoreResponseError, StoreConnectionError)):
            await store.append("s", chunk, 1)
        assert fresh_server.ask(b"REPLICAOF NO ONE").startswith(b"+OK")
        assert await writer.write(chunk) == 1


def answer(server: ServerProcess) -> bytes:
    try:
        return server.ask(b"GET k")
    except OSError:
        return b""


async def test_loading_server_is_waited_for(short_path: Path) -> None:
    """It answers LOADING while it reads its snapshot; readers and writers wait."""
    server = ServerProcess(
        short_path, options={"key-load-delay": "400", "loading-process-events-interval-bytes": "1024"}
    )
    await server.start()
    try:
        async with storage(server.url, block_timeout=200) as store:
            writer = await store.create_writer("s", "agent")
            await writer.write(text("a"))
            await store._requests.command(
                "", b"EVAL", b"for i=1,1500 do redis.call('SET','k'..i,string.rep('x',100)) end", 0
            )
            assert server.ask(b"SAVE") == b"+OK\r\n"
            server.kill()
            starting = asyncio.ensure_future(server.start())
            while b"LOADING" not in (await asyncio.to_thread(answer, server)):
                assert not starting.done(), "it had loaded before anyone could ask"
            results = await asyncio.gather(writer.write(text("b")), store.get_info("s"), starting)
            assert results[0] == 2
            assert await logged(store, "s") == ["a", "b"]
    finally:
        await server.stop()


@pytest.mark.parametrize("mode", ["WRITE", "ALL"])
async def test_pause_shorter_than_the_timeout_only_takes_time(fresh_server: ServerProcess, mode: str) -> None:
    async with storage(fresh_server.url, timeout=2) as store:
        writer = await store.create_writer("s", "agent")
        await store._requests.command("", b"CLIENT", b"PAUSE", 300, mode)
        started = time.monotonic()
        assert await writer.write(text("a")) == 1
        assert time.monotonic() - started > 0.25
        assert store._requests.topology.generation("s") == 1, "the connection stood"


async def test_server_stopped_for_longer_than_the_timeout_stores_once(fresh_server: ServerProcess) -> None:
    """What was sent to it before it stopped is executed when it goes on, beside what was sent again."""
    async with storage(fresh_server.url, timeout=0.2) as store:
        writer = await store.create_writer("s", "agent")
        await writer.write(text("a"))
        fresh_server.pause()
        writes = [asyncio.ensure_future(writer.write(text(n))) for n in range(3)]
        await asyncio.sleep(0.01)
        writer.send_text("sent")
        await asyncio.sleep(0.7)
        assert not any(write.done() for write in writes)
        fresh_server.resume()
        assert await asyncio.gather(*writes) == [2, 3, 4]
        await writer.flush()
        assert await logged(store, "s") == ["a", "0", "1", "2", "sent"]


async def test_silent_server_is_a_timeout(fresh_server: ServerProcess) -> None:
    async with storage(fresh_server.url, timeout=0.2, retry_timeout=0) as store:
        await store.create("s")
        fresh_server.pause()
        started = time.monotonic()
        try:
            with pytest.raises(StoreTimeoutError) as timeout:
                await store.get_info("s")
        finally:
            fresh_server.resume()
        assert timeout.value.retryable
        assert time.monotonic() - started < 5
        assert (await store.get_info("s")) is not None
