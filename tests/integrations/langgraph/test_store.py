"""HelixStore and HelixCache: as LangGraph's own in memory, on every backend."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from helix_fast import InvalidArgumentError
from helix_fast.integrations.langgraph import HelixCache, HelixStore
from helix_fast.keys import CollectionKeys

Make = Callable[..., Awaitable[Any]]
NAMESPACES = (("users", "1"), ("users", "1", "notes"), ("users", "10"), ("users/1",), ("docs",), ("ü{}%", "x y"))
KEYS = ("a", "b", "", "k:{é}")
FILTERS: tuple[dict[str, Any] | None, ...] = (
    None, {"n": 1}, {"n": {"$gte": 1, "$lt": 3}}, {"n": {"$ne": 1}}, {"deep": {"x": 1}}, {"n": {"$gt": 1}}, {"l": [1]},
)  # fmt: skip
CONDITIONS = (
    (),
    (MatchCondition("prefix", ("users",)),),
    (MatchCondition("prefix", ("users", "*", "notes")),),
    (MatchCondition("suffix", ("1",)), MatchCondition("prefix", ("*",))),
    (MatchCondition("suffix", ("*", "notes")),),
)


@pytest.fixture
async def store(make: Make) -> Any:
    return await make(HelixStore)


def shown(result: Any) -> Any:
    if isinstance(result, list):
        rows = [(*each.namespace, each.key, repr(each.value)) if hasattr(each, "key") else each for each in result]
        return sorted(rows)
    return result and (result.namespace, result.key, result.value)


async def test_a_random_history_reads_as_in_langgraphs_own_store(make: Make) -> None:
    stores = [await make(HelixStore), await make(HelixStore)]
    model, seed = InMemoryStore(), random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    for number in range(80):
        puts = []
        for _ in range(choose.randrange(4)):
            value = choose.choice([None, {"n": choose.randrange(4), "deep": {"x": 1, "y": number}, "l": [1]}, {"n": 9}])
            puts.append(PutOp(choose.choice(NAMESPACES), choose.choice(KEYS), value))
        reads: list[Any] = [
            GetOp(choose.choice(NAMESPACES), choose.choice(KEYS)),
            SearchOp(choose.choice([(), ("users",), ("users", "1"), ("none",)]), choose.choice(FILTERS), limit=100),
        ]
        ops = [*reads, *puts]
        mine, theirs = await choose.choice(stores).abatch(ops), model.batch(ops)
        assert list(map(shown, mine)) == list(map(shown, theirs)), ops
        condition, depth = choose.choice(CONDITIONS), choose.choice([None, 1, 2])
        op = ListNamespacesOp(condition, depth, limit=100)
        (listed,) = await choose.choice(stores).abatch([op])
        full = InMemoryStore()
        for each in model.search((), limit=1000):
            full.put(each.namespace, each.key, each.value)
        assert listed == full.batch([op])[0]


async def test_items_updated_last_come_first_and_pages_fit_together(store: Any) -> None:
    for number in range(7):
        await store.aput(("a",), str(number), {"n": number})
        await asyncio.sleep(0.002)  # their order is by milliseconds
    await store.aput(("a",), "3", {"n": 33})
    found = await store.asearch(("a",), limit=100)
    assert [each.key for each in found] == ["3", "6", "5", "4", "2", "1", "0"]
    assert found[0].created_at < found[1].created_at < found[0].updated_at
    pages = [await store.asearch((), limit=3, offset=offset) for offset in (0, 3, 6)]
    assert [each for page in pages for each in page] == found


async def test_items_live_for_their_ttl_and_reading_renews_it(store: Any) -> None:
    keys = CollectionKeys(store._connection.key_prefix, "memory", ("a",))
    requests = store._connection.requests

    async def left() -> float:
        return (await requests.command(keys.tag, "PTTL", keys.items)) / 60_000

    await store.aput(("a",), "short", {"n": 1}, ttl=10)
    assert 9.9 < await left() < 10.1
    await store.aput(("a",), "kept", {"n": 1})
    assert await requests.command(keys.tag, "TTL", keys.items) == -1
    await store.adelete(("a",), "kept")
    await requests.command(keys.tag, "ZADD", keys.expiry, "XX", 1, "short")  # its time is over
    assert await store.asearch(("a",)) == []
    assert await store.alist_namespaces() == []
    await store.aput(("a",), "short", {"n": 1}, ttl=10)
    for read in (lambda: store.aget(("a",), "short"), lambda: store.asearch(("a",))):
        await requests.command(keys.tag, "PEXPIRE", keys.items, 60_000)
        await read()
        assert await left() > 9.9
    await requests.command(keys.tag, "PEXPIRE", keys.items, 60_000)
    await store.aget(("a",), "short", refresh_ttl=False)
    assert await left() < 2


async def test_a_namespace_that_another_process_emptied_is_listed_again(make: Make) -> None:
    mine, other = await make(HelixStore), await make(HelixStore)
    for _ in range(2):
        await mine.aput(("a", "b"), "k", {"n": 1})
        assert await other.alist_namespaces() == [("a", "b")]
        await other.adelete(("a", "b"), "k")
        assert await mine.alist_namespaces() == []


async def test_what_is_no_json_is_refused_before_anything_is_written(store: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        await store.abatch([PutOp(("a",), "x", {"n": 1}), PutOp(("a",), "y", {"n": object()})])
    assert await store.aget(("a",), "x") is None
    await store.aput(("a",), "x", {"n": 1})
    with pytest.raises(InvalidArgumentError, match="operator"):
        await store.asearch(("a",), filter={"n": {"$in": 1}})


def test_blocking_methods_of_the_store_do_as_the_others(server_url: str) -> None:
    with HelixStore.from_conn_string(server_url) as store:
        store.setup()
        store.put(("a",), "k", {"n": 1})
        found = store.get(("a",), "k")
        assert found is not None
        assert found.value == {"n": 1}
        assert [each.key for each in store.search(("a",))] == ["k"]


async def test_the_cache_keeps_values_until_they_expire_or_are_cleared(make: Make) -> None:
    cache, other = await make(HelixCache), await make(HelixCache)
    one, two, three = (("n", "a.b"), "k"), ((), "k"), (("n",), "")
    await cache.aset({one: ({"x": [1, 2]}, None), two: (None, 1000), three: (b"\x00", 1000)})
    assert await other.aget([one, two, three, (("n",), "no")]) == {one: {"x": [1, 2]}, two: None, three: b"\x00"}
    keys = CollectionKeys(cache._connection.key_prefix, "cache", ("n",))
    await cache._connection.requests.command(keys.tag, "ZADD", keys.expiry, 1, "")
    assert await other.aget([one, three]) == {one: {"x": [1, 2]}}
    await other.aclear([("n", "a.b")])
    assert await cache.aget([one, two]) == {two: None}
    await cache.aset({one: (1, None)})
    await other.aclear()
    assert await cache.aget([one, two, three]) == {}
    assert await cache.aget([]) == {}


def test_blocking_methods_of_the_cache_do_as_the_others(server_url: str) -> None:
    key = (("n",), "k")
    with HelixCache(server_url) as cache:
        cache.set({key: (1, None)})
        assert cache.get([key]) == {key: 1}
        cache.clear()
        assert cache.get([key]) == {}
