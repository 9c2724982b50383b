"""Storing totals where that fails, or after the store was closed: it never disturbs a rollup."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import redis.asyncio

from helix_fast.errors import HelixError
from helix_fast.testing.contract.usage_helpers import tokens, total
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from helix_fast.usage import pages as usage_pages
from helix_fast.usage.store import RedisUsageStore
from helix_fast.usage.totals import Cursor
from tests.support.proxy import FaultProxy
from tests.support.sentinel import SentinelSet
from tests.support.usage_totals import (
    COUNT,
    KEYS,
    cold,
    ones,
    place,
    spoil,
    summed,
    totals,
    until_stored,
)

pytestmark = pytest.mark.faults


store = pytest.fixture(summed)


async def assert_rollups_go_on(store: RedisUsageStore, recording: RedisUsageStore) -> None:
    """Nothing is stored or reported, the connection stays, and it is not tried again at once."""
    reported: list[HelixError] = []
    store.on("error", reported.append)
    await store.exists("s")
    generation, before = store._requests.topology.generation("s"), store._requests.topology.requests
    expected = await total(recording)
    assert await total(store) == expected
    assert await total(store) == expected
    assert await totals(store) == {}
    assert store._requests.topology.generation("s") == generation
    assert [reported, store._requests.topology.requests - before <= 8] == [[], True]


async def test_a_user_that_may_not_write_reads_rollups(fresh_server: ServerProcess) -> None:
    async with RedisUsageStore(fresh_server.url) as recording:
        await recording.record_entries(ones(COUNT))
        for words in (("+@all", "-@write"), ("-@all", "+eval", "+evalsha", "+@read")):
            await recording._requests.command("", "ACL", "SETUSER", "reader", "reset", "on", ">pw", "~helix:*", *words)
            async with RedisUsageStore(fresh_server.url.replace("//", "//reader:pw@")) as store:
                await assert_rollups_go_on(store, recording=store)


async def test_a_full_server_stores_no_totals(fresh_server: ServerProcess) -> None:
    async with RedisUsageStore(fresh_server.url) as store:
        await store.record_entries(ones(COUNT))
        await store._requests.command("", "CONFIG", "SET", "maxmemory", "1")
        await assert_rollups_go_on(store, recording=store)
        await store._requests.command("", "CONFIG", "SET", "maxmemory", "0")
        assert await cold(fresh_server.url) == COUNT
        assert await place(store) == COUNT


async def test_rollups_are_read_from_a_replica_and_its_connection_stays(short_path: Path) -> None:
    watched = SentinelSet(short_path, replicas=1, sentinels=0)
    try:
        await watched.start()
        primary, replica = watched.servers
        async with RedisUsageStore(primary.url, wait_replicas=1) as recording:
            await recording.record_entries(ones(COUNT))
            async with RedisUsageStore(replica.url) as store:
                await assert_rollups_go_on(store, recording=store)
            # With wait_replicas they are stored like anything else, and reach the replica
            assert await total(recording) == COUNT
            assert await place(recording) == COUNT
            async with RedisUsageStore(replica.url) as store:
                assert await place(store) == COUNT
                assert await total(store) == COUNT
    finally:
        await watched.stop()


async def test_a_lost_reply_is_nobodys_concern(store: RedisUsageStore, fault_proxy: FaultProxy) -> None:
    await store._requests.command("s", "DEL", KEYS.totals)
    async with RedisUsageStore(fault_proxy.url) as reading:
        reported: list[HelixError] = []
        reading.on("error", reported.append)
        assert await total(reading) == COUNT
        fault_proxy.drop_replies()
        await until(lambda: not reading._requests.topology.lane.outbox.frames, what="the request to leave")  # type: ignore[attr-defined]
        fault_proxy.heal()
        fault_proxy.cut_all()
        assert await total(reading) == COUNT
        assert reported == []


@pytest.mark.parametrize("cut", [0, 1, 100, 2000, 3000, 3500])
async def test_a_request_cut_at_any_byte_stores_all_or_nothing(
    store: RedisUsageStore, server_url: str, fault_proxy: FaultProxy, cut: int
) -> None:
    right = await totals(store)
    await store._requests.command("s", "DEL", KEYS.totals)
    async with RedisUsageStore(fault_proxy.url) as reading:
        assert await total(reading) == COUNT
        fault_proxy.cut_after_request_bytes(cut)
        assert await total(reading) == COUNT
        assert fault_proxy.accepted == 2
        assert await totals(store) in ({}, right)
    assert await cold(server_url) == COUNT


async def test_a_program_that_reads_one_rollup_and_ends_stores_totals(store: RedisUsageStore, server_url: str) -> None:
    await store._requests.command("s", "DEL", KEYS.totals)
    before = asyncio.all_tasks()
    async with RedisUsageStore(server_url) as reading:
        assert await total(reading) == COUNT
    assert asyncio.all_tasks() == before
    await until_stored(store)
    assert await place(store) == COUNT


async def test_a_store_that_is_closed_while_it_reads_ends_quietly(server_url: str, store: RedisUsageStore) -> None:
    await store._requests.command("s", "DEL", KEYS.totals)
    reading = RedisUsageStore(server_url)
    await reading.exists("s")
    asked = asyncio.create_task(total(reading))
    await asyncio.sleep(0)
    await reading.close()
    with pytest.raises(HelixError):
        await asked


async def test_a_store_that_is_closed_before_totals_are_stored_has_its_rollup(
    server_url: str, store: RedisUsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store._requests.command("s", "DEL", KEYS.totals)
    reading = RedisUsageStore(server_url)
    read = usage_pages.Pages.next

    async def read_and_close(pages: usage_pages.Pages, cursor: Cursor) -> usage_pages.Page | None:
        page = await read(pages, cursor)
        await reading.close()
        return page

    monkeypatch.setattr(usage_pages, "FIRST_PAGE", COUNT)
    monkeypatch.setattr(usage_pages.Pages, "next", read_and_close)
    assert await total(reading) == COUNT
    assert await totals(store) == {}


async def test_many_readers_at_once_store_the_same(store: RedisUsageStore, server_url: str) -> None:
    right = await totals(store)
    await store._requests.command("s", "DEL", KEYS.totals)
    assert set(await asyncio.gather(*(cold(server_url) for _ in range(10)))) == {COUNT}
    await until_stored(store)
    assert await totals(store) == right


async def test_totals_on_a_cluster(cluster_url: str) -> None:
    async with RedisUsageStore(cluster_url) as store:
        for name in ("s", "t", "u", "v"):
            await store.record_entries([tokens(name) for _ in range(COUNT)])
            assert await total(store, name) == 150 * COUNT
        assert await place(store) == COUNT
        await spoil(store, 5)
        async with RedisUsageStore(cluster_url) as reading:
            assert [await total(reading, name) for name in "tuv"] == [150 * COUNT] * 3
            assert await total(reading) == 5 * COUNT
        assert await store.delete("s")
        assert await totals(store) == {}


async def test_plain_client_sees_what_the_documentation_says(store: RedisUsageStore, server_url: str) -> None:
    async with redis.asyncio.Redis.from_url(server_url) as client:
        found = await client.hgetall("helix:usage:totals:{s}")
    assert set(found) == {b"format", b"nonce", b"place", b"digest", b"sums"}
    assert json.loads(found[b"sums"])[:2] == [COUNT, 0]
