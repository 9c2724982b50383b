"""Stores in memory live by the clock of their server: what has expired is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helix_fast import HelixError, InvalidArgumentError, ProducerLostError, StreamDeletedError
from helix_fast.memory import (
    InMemoryLockManager,
    InMemoryStateStore,
    InMemoryStreamManager,
    InMemoryUsageStore,
    MemoryServer,
)
from tests.support.memory import CHUNK, ENTRY


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_session_expires_by_the_given_clock(clock: Clock) -> None:
    async with InMemoryStateStore(clock=clock, ttl=60) as state:
        await state.create_session("s", agent_type="a")
        await state.append_messages("s", [{"role": "user"}])
        clock.now += 59
        await state.update_status("s", "running")  # renews
        clock.now += 59
        assert await state.exists("s")
        clock.now += 1
        assert not await state.exists("s")
        assert await state.load("s") is None
        clock.now += 120  # so long it is remembered what has been done, for a call that is repeated
        assert state.server.execute("DBSIZE") == 0


async def test_times_of_a_session_are_the_clocks(clock: Clock) -> None:
    async with InMemoryStateStore(clock=clock) as state:
        created = await state.create_session("s", agent_type="a")
        clock.now += 5
        await state.update_status("s", "running")
        loaded = await state.load("s")
        assert loaded is not None
        assert (created.created_at, loaded.updated_at) == (1_700_000_000_000, 1_700_000_005_000)


async def test_a_stream_expires_by_the_given_clock_and_its_reader_is_told(clock: Clock) -> None:
    async with InMemoryStreamManager(clock=clock, ttl=60, block_timeout=5) as streams:
        async with await streams.create_writer("s", "a") as writer:
            await writer.write(CHUNK)
        reader = await streams.create_reader("s")
        assert reader is not None
        await reader.__anext__()
        clock.now += 60
        assert await streams.get_info("s") is None
        with pytest.raises(StreamDeletedError):
            await asyncio.wait_for(reader.__anext__(), 5)


async def test_a_producer_is_lost_when_its_lease_has_passed_on_the_clock(clock: Clock) -> None:
    server = MemoryServer(clock)
    async with InMemoryStreamManager(server, block_timeout=5) as streams, InMemoryStreamManager(server) as other:
        writer = await other.create_writer("s", "a", lease_ms=30_000)
        await writer.write(CHUNK)
        reader = await streams.create_reader("s")
        assert reader is not None
        await reader.__anext__()
        clock.now += 29
        info = await streams.get_info("s")
        assert info is not None
        assert info.lease_expires_at == 1_700_000_030_000
        clock.now += 1
        reading = asyncio.ensure_future(reader.__anext__())
        while not reading.done():  # the first look gives the producer a moment to come back
            clock.now += 1
            await asyncio.sleep(0.01)
        with pytest.raises(ProducerLostError):
            await reading


async def test_usage_expires_by_the_given_clock_and_leaves_the_index(clock: Clock) -> None:
    async with InMemoryUsageStore(clock=clock, ttl_seconds=60) as usage:
        assert await usage.record_entry(dict(ENTRY))
        assert not await usage.record_entry(dict(ENTRY)), "a retry"
        assert list(await usage.find_session_ids()) == ["s"]
        clock.now += 60.001
        assert await usage.get_rollup("s") is None
        assert list(await usage.find_session_ids()) == []
        assert await usage.record_entry(dict(ENTRY)), "the id went with the session's usage"


async def test_a_lock_expires_by_the_servers_clock(clock: Clock) -> None:
    async with InMemoryLockManager(MemoryServer(clock)) as locks:
        lock = await locks.acquire("s", ttl_ms=10_000)
        assert lock is not None
        clock.now += 9.8
        assert lock.held
        clock.now += 0.1
        assert await locks.is_locked("s")
        clock.now += 0.2
        assert not await locks.is_locked("s")
        assert not lock.held


async def test_two_lives_of_a_stream_differ_under_a_clock_that_stands_still(clock: Clock) -> None:
    async with InMemoryStreamManager(clock=clock) as streams:
        writer = await streams.create_writer("s", "a")
        await streams.delete_stream("s")
        again = await streams.create_writer("s", "a")
        assert writer.epoch != again.epoch
        with pytest.raises(HelixError):
            await writer.write(CHUNK)
        assert await again.write(CHUNK) == 1


async def test_keys_that_nobody_asks_for_again_do_not_stay_for_ever(clock: Clock) -> None:
    async with InMemoryStateStore(clock=clock, ttl=60) as state:
        for number in range(300):
            await state.create_session(f"s{number}", agent_type="a")
        clock.now += 3_600
        kept = state.server._keys._values
        assert len(kept) >= 300
        for _ in range(3_000):
            await state.exists("another")
        assert kept == {}


@pytest.mark.parametrize("clock", [5, "now"])
def test_a_clock_that_is_none_is_refused(clock: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="clock"):
        MemoryServer(clock)
