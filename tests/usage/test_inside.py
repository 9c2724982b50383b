"""What the sums of usage cost: requests and entries counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from helix_fast import RedisUsageStore
from helix_fast.testing.contract.fixtures import RequestsOf
from helix_fast.testing.contract.usage.rollups import record_tree
from helix_fast.testing.contract.usage_helpers import tokens, total

MakeUsageStore = Callable[..., RedisUsageStore]


async def test_recording_is_one_round_trip(usage_store: Any, requests_of: RequestsOf) -> None:
    await usage_store.record_entry(tokens())
    before = requests_of(usage_store)
    await usage_store.record_entry(tokens())
    await usage_store.record_entries([tokens(id=str(n)) for n in range(50)])
    assert requests_of(usage_store) == before + 2


async def test_only_new_entries_are_read_again(make_usage_store: MakeUsageStore) -> None:
    store, other = make_usage_store(), make_usage_store()
    await store.record_entries([tokens(id=str(n)) for n in range(1000)])
    assert await total(store) == 150_000
    asked = store._rollups._cache["s"].cursor.read
    await other.record_entry(tokens())
    assert await total(store) == 150_150
    assert (asked, store._rollups._cache["s"].cursor.read) == (1000, 1001)


async def test_entries_that_another_store_has_added_are_not_read(
    make_usage_store: MakeUsageStore, requests_of: RequestsOf
) -> None:
    store = make_usage_store()
    await store.record_entries([tokens(id=str(n)) for n in range(11_000)])
    for more in (0, 499, 1, 500):
        await store.record_entries([tokens() for _ in range(more)])
        known = await store.get_rollup("s")
        await store.record_entries([tokens()])  # over the same connection as the totals, and after them
        reading = make_usage_store()
        assert not await reading.exists("another")
        before = requests_of(reading)
        rollup = await reading.get_rollup("s")
        assert known is not None
        assert rollup is not None
        assert rollup.entry_count == known.entry_count + 1
        assert requests_of(reading) == before + 1
        await reading.close()


async def test_nothing_is_stored_for_a_few_new_entries(
    make_usage_store: MakeUsageStore, requests_of: RequestsOf
) -> None:
    store = make_usage_store()
    await store.record_entry(tokens())
    assert await total(store) == 150  # the server knows the scripts now
    for size, expected in ((498, 1), (1, 2), (499, 1), (1, 2)):
        await store.record_entries([tokens() for _ in range(size)])
        before = requests_of(store)
        await store.get_rollup("s")
        await asyncio.sleep(0)
        assert requests_of(store) == before + expected


async def test_sums_of_few_sessions_are_kept(make_usage_store: MakeUsageStore) -> None:
    store = make_usage_store(rollup_sessions=2)
    for name in "abc":
        await store.record_entry(tokens(name))
        assert await total(store, name) == 150
    assert list(store._rollups._cache) == ["b", "c"]
    assert await total(store, "a") == 150


class Waves:
    """An observer that counts requests: those that begin before the next one is answered are one wave."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self._answered = True

    def request(self, tag: str, command: str, script: str = "") -> Waves:
        if self._answered:
            self.counts.append(0)
        self.counts[-1] += 1
        self._answered = False
        return self

    def done(self, error: BaseException | None = None) -> None:
        self._answered = True

    def reconnected(self, target: str, purpose: str) -> None: ...


async def test_a_tree_is_read_in_one_wave_a_level(usage_store: Any) -> None:
    edges = [("root", f"a{n}") for n in range(30)] + [(f"a{n}", f"b{n}-{m}") for n in range(30) for m in range(32)]
    await record_tree(usage_store, edges)
    usage_store._requests.topology.observer = waves = Waves()
    rollup = await usage_store.get_rollup("root", include_sub_agents=True)
    assert rollup is not None
    assert len(rollup.by_session or {}) == 1 + 30 + 960
    assert rollup.tokens.total == 991 * 150
    assert waves.counts == [1, 30, 960]
