"""A server in memory that is set back to an earlier state, as a server that is restored from a backup."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from helix_fast.memory import InMemoryStateStore, InMemoryStreamManager, MemoryServer
from tests.support.memory import CHUNK

FILL = (
    "SET s v", "SET e v PX 5000", "HSET h f v", "RPUSH l a b", "SADD m a b", "ZADD z 1 a 2 b", "XADD x 1-1 f v",
    "XADD x 2-1 f v",
)  # fmt: skip
CHANGE = (
    "APPEND s w", "PERSIST e", "HSET h f w g x", "LPUSH l c", "SREM m a", "ZADD z 9 a", "XADD x 3-1 f w",
    "XTRIM x MINID 2", "SET new v", "HDEL h f", "LPOP l", "DEL s",
)  # fmt: skip
INSPECTION = (
    "GET s", "PTTL e", "HGETALL h", "LRANGE l 0 -1", "SMEMBERS m", "ZRANGE z 0 -1 WITHSCORES", "XRANGE x - +", "KEYS *",
    "TIME", "INFO",
)  # fmt: skip


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def run(server: MemoryServer, lines: tuple[str, ...]) -> list[Any]:
    return [server.execute(*line.split()) for line in lines]


def ids(server: MemoryServer) -> tuple[str, str]:
    """Run id and replication id."""
    text = server.execute("INFO", "server", "replication").decode()
    found = re.findall(r"^(?:run_id|master_replid):([0-9a-f]{40})\r$", text, re.MULTILINE)
    assert len(found) == 2
    return found[0], found[1]


def test_everything_is_as_it_was_however_often_it_is_restored() -> None:
    server = MemoryServer(Clock())
    run(server, FILL)
    before = server.snapshot()
    then = run(server, INSPECTION)
    for _ in range(3):
        run(server, CHANGE)
        assert run(server, INSPECTION[:-1]) != then[:-1]
        server.restore(before)
        assert run(server, INSPECTION) == then


def test_a_snapshot_can_be_restored_in_another_server() -> None:
    one, two = MemoryServer(Clock()), MemoryServer(Clock())
    run(one, FILL)
    two.restore(one.snapshot())
    then = run(two, INSPECTION)
    run(one, CHANGE)
    assert run(two, INSPECTION[:-2]) == then[:-2]


def test_a_new_history_has_new_ids_and_the_old_one_its_own() -> None:
    server = MemoryServer()
    first, before = ids(server), server.snapshot()
    server.restore(before)
    assert ids(server) == first
    server.restore(before, new_history=True)
    second = ids(server)
    assert not set(second) & set(first)
    server.restore(before)
    assert ids(server) == first
    assert not set(ids(MemoryServer())) & set(first)


def test_the_clock_may_be_set_to_anything_between_two_commands() -> None:
    clock = Clock()
    server = MemoryServer(clock)
    server.execute("SET", "k", "v", "PX", 1000)
    before = server.snapshot()
    clock.now += 2
    assert server.execute("GET", "k") is None
    clock.now -= 2
    server.restore(before)
    assert server.execute("PTTL", "k") == 1000
    clock.now -= 100
    assert server.execute("PTTL", "k") == 101_000
    assert server.execute("TIME") == [b"1699999900", b"0"]
    assert server.execute("TIME") == [b"1699999900", b"1"], "two answers differ while the clock stands still"


async def test_stores_go_on_after_a_restore_as_after_a_restart() -> None:
    server = MemoryServer()
    async with InMemoryStateStore(server) as state:
        await state.create_session("s", agent_type="a")
        before = server.snapshot()
        await state.create_session("lost", agent_type="a")
        server.restore(before)
        assert await state.exists("s")
        assert not await state.exists("lost")
        assert await state.append_messages("s", [{"role": "user"}]) == 1


async def test_a_call_under_way_is_repeated_on_the_server_as_it_was() -> None:
    server = MemoryServer()
    async with InMemoryStateStore(server) as state:
        await state.create_session("s", agent_type="a")
        before = server.snapshot()
        for turns in range(40):
            task = asyncio.create_task(state.append_messages("s", [{"role": "user"}]))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            server.restore(before)
            assert await task == 1
            assert await state.get_message_count("s") <= 1, "never twice; not at all where its reply was there already"
            server.restore(before, keep_connections=True)
        else:
            pytest.fail("no call was done before its reply was lost")


async def test_a_live_reader_hears_of_what_comes_after_a_restart() -> None:
    server = MemoryServer()
    async with InMemoryStreamManager(server) as streams:
        writer = await streams.create_writer("s", "a")
        await writer.write(CHUNK)
        reader = await streams.create_resumable_reader("s")
        assert reader is not None
        assert (await reader.__anext__()).sequence == 1
        following = asyncio.create_task(reader.__anext__())
        await asyncio.sleep(0)
        server.restore(server.snapshot())
        assert await writer.write(CHUNK) == 2
        assert (await asyncio.wait_for(following, 10)).sequence == 2


async def test_connections_and_subscriptions_can_be_kept() -> None:
    server = MemoryServer()
    async with InMemoryStateStore(server) as state:
        await state.create_session("s", agent_type="a")
        generation = state._requests.topology.generation("")
        server.restore(server.snapshot(), keep_connections=True)
        assert await state.exists("s")
        assert state._requests.topology.generation("") == generation
        server.restore(server.snapshot())
        await asyncio.sleep(0)
        assert state._requests.topology.generation("") > generation
