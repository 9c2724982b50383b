"""Flags: events whose truth is whether they are set."""

from __future__ import annotations

import asyncio

import pytest

from helix_fast import connect
from helix_fast.flag import Flag


async def test_a_flag_is_an_event_that_is_true_when_it_is_set() -> None:
    flag = Flag()
    assert isinstance(flag, asyncio.Event)
    assert not flag
    waiting = asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    flag.set()
    assert flag
    assert await asyncio.wait_for(waiting, 30) is True
    flag.clear()
    assert not flag
    assert not flag.is_set()


@pytest.mark.parametrize("url", ["memory://", pytest.param("embedded://", marks=pytest.mark.server)])
async def test_a_writer_that_is_asked_to_stop_can_tell_by_an_if(url: str) -> None:
    async with connect(url) as helix:
        writer = await helix.streams.create_writer("s", "agent")
        assert not writer.stop_requested
        await helix.streams.request_stop("s")
        await asyncio.wait_for(writer.stop_requested.wait(), 30)
        assert writer.stop_requested


@pytest.mark.parametrize("url", ["memory://", pytest.param("embedded://", marks=pytest.mark.server)])
async def test_a_holder_that_has_lost_its_lock_can_tell_by_an_if(url: str) -> None:
    async with connect(url) as helix:
        lock = await helix.locks.acquire("s", ttl_ms=600_000)
        assert lock is not None
        assert not lock.lost
        await helix.state._requests.command("s", "DEL", "helix:lock:{s}")
        assert await lock.refresh() is False
        assert lock.lost
        assert await lock.lost.wait()
        kept = await helix.locks.acquire("t", ttl_ms=600_000)
        assert kept is not None
        assert not kept.lost
        await kept.release()
        assert not kept.lost, "released is not lost"
