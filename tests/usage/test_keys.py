"""What usage leaves on the server: times to live, other programs' writes, the index, scripts that fail."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from helix_fast import connect
from helix_fast.errors import HelixError, MalformedEntryError, StoreResponseError
from helix_fast.keys import UsageKeys, index_shard, usage_index
from helix_fast.testing.contract.usage_helpers import sub_agent, tokens, total
from helix_fast.usage.schema import TokenUsage
from helix_fast.usage.store import RedisUsageStore

pytestmark = pytest.mark.faults


@pytest.fixture
async def store(server_url: str) -> AsyncIterator[RedisUsageStore]:
    async with RedisUsageStore(server_url, ttl_seconds=1000) as made:
        yield made


async def push(store: RedisUsageStore, *entries: bytes | dict[str, Any], session: str = "s") -> None:
    """What a program does that knows only the reference page."""
    data = [entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries]
    await store._requests.command(session, "RPUSH", f"helix:usage:entries:{{{session}}}", *data)


async def all_keys(store: RedisUsageStore) -> dict[bytes, int]:
    """Every key of the server and its time to live in milliseconds."""
    names = await store._requests.command("", "KEYS", "*")
    return {name: await store._requests.command("", "PTTL", name) for name in names}


async def test_entries_are_where_the_reference_page_says(store: RedisUsageStore) -> None:
    await store.record_entry(tokens("session-123", id="x"))
    (entry,) = await store._requests.command("", "LRANGE", "helix:usage:entries:{session-123}", 0, -1)
    assert json.loads(entry) == tokens("session-123", id="x")


async def test_every_key_has_a_time_to_live_and_each_write_renews_it(store: RedisUsageStore) -> None:
    await store.record_entry(tokens())
    await store.delete("gone")
    keys = await all_keys(store)
    assert len(keys) == 4
    deleted = UsageKeys("helix", "gone").deleted
    assert all(0 < left <= (60_000 if name == deleted else 1_000_000) for name, left in keys.items())
    session = UsageKeys("helix", "s")
    names = [session.entries, session.ids, usage_index("helix", index_shard("s"))]
    for name in names:
        await store._requests.command("", "PEXPIRE", name, 5000)
    await store.record_entry(tokens())
    keys = await all_keys(store)
    assert all(keys[name] > 900_000 for name in names)


async def test_without_a_ttl_usage_stays(server_url: str, store: RedisUsageStore) -> None:
    await store.record_entry(tokens())
    async with RedisUsageStore(server_url, ttl_seconds=None) as keeping:
        await keeping.record_entry(tokens())
        assert set((await all_keys(store)).values()) == {-1}
    # The index lists a session that stays: a store with a TTL does not take that away.
    await store.record_entry(tokens())
    assert (await all_keys(store))[usage_index("helix", index_shard("s"))] == -1


async def test_expired_sessions_leave_the_index_by_themselves(server_url: str, store: RedisUsageStore) -> None:
    shard = index_shard("s")
    mate = next(name for n in range(10_000) if index_shard(name := f"mate-{n}") == shard)
    async with RedisUsageStore(server_url, ttl_seconds=1) as short:
        await short.record_entry(tokens())
        await store.record_entry(tokens(mate))
        assert sorted(await store.find_session_ids()) == [mate, "s"]
        for _ in range(2000):
            if not await store.exists("s"):
                break
            await asyncio.sleep(0.002)
        assert await store.find_session_ids() == [mate]
        assert await store.find_session_ids(limit=5) == [mate]
    index = usage_index("helix", shard)
    assert await store._requests.command("", "ZCARD", index) == 2
    await store.record_entry(tokens(mate))
    assert await store._requests.command("", "ZCARD", index) == 1


async def test_expiry_is_noticed_by_kept_sums_and_by_ids(server_url: str, store: RedisUsageStore) -> None:
    await store.record_entry(tokens(id="a"))
    assert await total(store) == 150
    session = UsageKeys("helix", "s")
    for name in (session.entries, session.ids):
        await store._requests.command("", "PEXPIRE", name, 1)
    for _ in range(2000):
        if not await store.exists("s"):
            break
        await asyncio.sleep(0.002)
    assert await total(store) is None
    assert await store.record_entry(tokens(id="a", tokens={"total": 5})) is True
    assert await total(store) == 5


async def test_entries_of_other_programs_count(store: RedisUsageStore) -> None:
    await push(store, tokens(), tokens(tokens={"prompt": 1.0, "completion": 1e1}))
    assert await total(store) == 161
    await push(store, tokens())
    assert await total(store) == 311
    assert await store.record_entry(tokens()) is True
    assert await total(store) == 461
    await push(store, tokens())
    assert await total(store) == 611


async def test_a_list_that_other_programs_make_anew_is_noticed(store: RedisUsageStore) -> None:
    await push(store, tokens(id="1"), tokens(id="2"))
    assert await total(store) == 300
    await store._requests.command("", "DEL", "helix:usage:entries:{s}")
    await push(store, tokens(id="3", tokens={"total": 1}), tokens(id="4", tokens={"total": 2}), tokens(id="5"))
    assert await total(store) == 153
    await store._requests.command("", "LPOP", "helix:usage:entries:{s}")
    assert await total(store) == 152


async def test_a_list_of_ours_that_other_programs_make_anew_is_noticed(store: RedisUsageStore) -> None:
    await store.record_entries([tokens(id="1"), tokens(id="2")])
    assert await total(store) == 300
    await store._requests.command("", "DEL", "helix:usage:entries:{s}")
    await push(store, tokens(id="3", tokens={"total": 1}), tokens(id="4", tokens={"total": 2}), tokens(id="5"))
    assert await total(store) == 153


async def test_a_list_made_anew_between_two_pages_is_read_from_its_beginning(
    store: RedisUsageStore, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RedisUsageStore(server_url) as other:
        run = store._requests.run
        pages = 0

        async def run_and_replace(*args: Any, **options: Any) -> Any:
            nonlocal pages
            reply = await run(*args, **options)
            pages += 1
            if pages == 1:
                await other.delete("s")
                await other.record_entries([tokens(id=f"new-{n}", tokens={"total": 1}) for n in range(10_500)])
            return reply

        monkeypatch.setattr(store._requests, "run", run_and_replace)
        for read in (store.get_entries, store.get_rollup):
            await other.delete("s")
            await other.record_entries([tokens(id=f"old-{n}") for n in range(10_500)])
            pages = 0
            found: Any = await read("s")
            if isinstance(found, list):
                assert [entry.id for entry in found] == [f"new-{n}" for n in range(10_500)]
            else:
                assert found.tokens.total == 10_500


async def test_ids_of_a_list_that_other_programs_deleted_do_not_block_new_entries(store: RedisUsageStore) -> None:
    await store.record_entry(tokens(id="a"))
    assert await total(store) == 150
    await store._requests.command("", "DEL", "helix:usage:entries:{s}")
    assert await store.record_entry(tokens(id="a", tokens={"total": 7})) is True
    assert await total(store) == 7


async def test_what_is_stored_and_no_entry_is_reported_and_in_no_sum(store: RedisUsageStore) -> None:
    reported: list[HelixError] = []
    store.on("error", reported.append)
    await push(store, tokens(id="1"), b"no json", tokens(id="2", tokens={"prompt": -5}), tokens(id="3"))
    assert [entry.id for entry in await store.get_entries("s")] == ["1", "3"]
    assert [type(error) for error in reported] == [MalformedEntryError, MalformedEntryError]
    assert "'s'" in str(reported[0])
    rollup = await store.get_rollup("s")
    assert rollup is not None
    assert (rollup.tokens.total, rollup.entry_count, rollup.malformed_count) == (300, 2, 2)


async def test_text_that_javascript_has_cut_in_half_is_read(store: RedisUsageStore) -> None:
    await push(store, json.dumps(tokens(id="1", run="half \ud83d")).encode())
    (entry,) = await store.get_entries("s")
    assert isinstance(entry, TokenUsage)
    assert entry.extra == {"run": "half \ud83d"}
    assert await total(store) == 150


async def test_sub_sessions_that_cannot_be_keys_are_missing(store: RedisUsageStore) -> None:
    await push(store, sub_agent("s", "a{b}"), sub_agent("s", "x" * 600))
    rollup = await store.get_rollup("s", include_sub_agents=True)
    assert rollup is not None
    assert rollup.missing_sessions == ["a{b}", "x" * 600]


@pytest.mark.parametrize("which", ["entries", "ids", "index"])
async def test_a_key_of_another_type_leaves_nothing_half_written(store: RedisUsageStore, which: str) -> None:
    session = UsageKeys("helix", "s")
    names = {"entries": session.entries, "ids": session.ids, "index": usage_index("helix", index_shard("s"))}
    await store._requests.command("", "SET", names[which], "x")
    with pytest.raises(StoreResponseError, match="WRONGTYPE"):
        await store.record_entries([tokens(), tokens()])
    assert list(await all_keys(store)) == [names[which]]


async def test_a_full_server_refuses_all_of_a_call(fresh_server: Any) -> None:
    async with connect(fresh_server.url, retry_timeout=0.1) as helix:
        store = helix.usage
        await store.record_entry(tokens(id="a"))
        await store._requests.command("", "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreResponseError, match="OOM"):
            await store.record_entries([tokens(id="b"), tokens(id="c")])
        await store._requests.command("", "CONFIG", "SET", "maxmemory", "0")
        assert await store.get_entry_count("s") == 1
        assert await store.record_entries([tokens(id="b"), tokens(id="c")]) == 2


# A cluster, where the index lives in another slot than the session's keys


@pytest.fixture
async def clustered(cluster_url: str) -> AsyncIterator[RedisUsageStore]:
    async with RedisUsageStore(cluster_url) as store:
        yield store


async def listed(store: RedisUsageStore, session: str) -> bool:
    shard = index_shard(session)
    return await store._requests.command(f"{shard:02d}", "ZSCORE", usage_index("helix", shard), session) is not None


async def test_usage_on_a_cluster(clustered: RedisUsageStore) -> None:
    names = [f"session-{n}" for n in range(20)]
    for parent, child in pairwise(names):
        await clustered.record_entries([tokens(parent), sub_agent(parent, child)])
    await clustered.record_entry(tokens(names[-1]))
    assert await total(clustered, names[0], include_sub_agents=True) == 20 * 150
    # Listed before it is written: a session is in the index even where the write fails
    assert not await listed(clustered, "s")
    await clustered._requests.command("s", "SET", UsageKeys("helix", "s").entries, "x")
    with pytest.raises(StoreResponseError):
        await clustered.record_entry(tokens())
    assert await listed(clustered, "s")
    await clustered._requests.command("s", "DEL", UsageKeys("helix", "s").entries)
    assert sorted(await clustered.find_session_ids()) == sorted(names)
    await clustered.record_entry(tokens())
    assert sorted(await clustered.find_session_ids()) == sorted([*names, "s"])


async def test_what_is_deleted_elsewhere_on_a_cluster_can_be_recorded_and_found_again(
    clustered: RedisUsageStore,
) -> None:
    async with RedisUsageStore(topology=clustered._requests.topology) as other:
        await clustered.record_entry(tokens())
        assert await other.delete("s") is True
        assert await clustered.find_session_ids() == []
        await clustered.record_entry(tokens())
        assert await other.find_session_ids() == ["s"]
        keys = UsageKeys("helix", "s")
        for name in (keys.entries, keys.ids, keys.deleted):
            assert await clustered._requests.command("s", "PTTL", name) > 0


# Other programs list the sessions that they write themselves, as docs/usage.md says


async def record_as_others_do(store: RedisUsageStore, session: str, ttl: int = 1000) -> None:
    """The step of the documentation, by its text alone."""
    index = f"helix:usage:sessions:{{{zlib.crc32(session.encode()) % 64:02d}}}"
    await push(store, tokens(session), session=session)
    await store._requests.command(session, "EXPIRE", f"helix:usage:entries:{{{session}}}", ttl)
    await store._requests.command(index[-3:-1], "ZADD", index, int(time.time() * 1000) + ttl * 1000, session)
    await store._requests.command(index[-3:-1], "PERSIST", index)


async def test_sessions_that_other_programs_list_are_found(store: RedisUsageStore) -> None:
    names = [f"s{n}" for n in range(100)]
    for name in names[:50]:
        await record_as_others_do(store, name)
    for name in names[40:]:
        await store.record_entry(tokens(name))
    assert sorted(await store.find_session_ids()) == sorted(names)
    assert await total(store, "s7") == 150
    assert await total(store, "s45") == 300
    found: list[str] = []
    cursor = None
    while True:
        page = await store.find_session_ids(limit=7, cursor=cursor)
        found += page
        if (cursor := page.cursor) is None:
            break
    assert sorted(found) == sorted(names)
    assert await store.delete("s7")
    assert "s7" not in await store.find_session_ids()


async def test_a_session_of_another_program_outlives_those_of_ours(server_url: str, store: RedisUsageStore) -> None:
    async with RedisUsageStore(server_url, ttl_seconds=1) as short:
        await short.record_entry(tokens("a"))
    mate = next(name for n in range(10_000) if index_shard(name := f"mate-{n}") == index_shard("a"))
    await record_as_others_do(store, mate)
    for _ in range(2000):
        if not await store.exists("a"):
            break
        await asyncio.sleep(0.01)
    assert await store.find_session_ids() == [mate]


async def test_sessions_that_other_programs_list_are_found_on_a_cluster(clustered: RedisUsageStore) -> None:
    names = [f"s{n}" for n in range(20)]
    for name in names:
        await record_as_others_do(clustered, name)
    assert sorted(await clustered.find_session_ids()) == sorted(names)
