"""Reading usage: entries by filters, counts, deletion, and the index of sessions."""

from __future__ import annotations

from typing import Any

import pytest

from helix_fast.errors import InvalidArgumentError, StoreClosedError
from helix_fast.interfaces import UsageStore
from helix_fast.testing.contract.fixtures import MakeUsageStore
from helix_fast.testing.contract.usage_helpers import tokens


async def record_mixed(store: UsageStore) -> None:
    """Ids and steps 0-9, times 1000, 1010…; even ones are tokens, odd ones tools, the last is of an unknown kind."""
    entries: list[dict[str, Any]] = []
    for n in range(10):
        entry = tokens(id=str(n), stepCount=n, timestamp=1000 + 10 * n)
        if n % 2:
            entry |= {"kind": "tool", "toolName": "t", "durationMs": n}
            del entry["tokens"], entry["model"]
        if n == 9:
            entry["kind"] = "embedding"
        entries.append(entry)
    await store.record_entries(entries)


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, "0123456789"),
        ({"kinds": ["tokens"]}, "02468"),
        ({"kinds": {"tool", "embedding"}}, "13579"),
        ({"kinds": ("embedding",)}, "9"),
        ({"kinds": ["custom"]}, ""),
        ({"kinds": []}, ""),
        ({"step_range": (5, 8)}, "5678"),
        ({"step_range": {"min": 5, "max": 8}}, "5678"),
        ({"step_range": (8, None)}, "89"),
        ({"step_range": {"max": 1}}, "01"),
        ({"step_range": (5, 5)}, "5"),
        ({"time_range": (1020, 1040)}, "234"),
        ({"time_range": {"start": 1020, "end": 1040}}, "234"),
        ({"time_range": {"start": 1080}}, "89"),
        ({"time_range": (None, 1009)}, "0"),
        ({"time_range": (0, 2**70)}, "0123456789"),
        ({"kinds": ["tokens"], "step_range": (2, 8), "time_range": (1000, 1060)}, "246"),
        ({"limit": 3}, "012"),
        ({"limit": 3, "offset": 4}, "456"),
        ({"offset": 8}, "89"),
        ({"offset": 20}, ""),
        ({"limit": 0}, ""),
        ({"limit": 5, "offset": 20}, ""),
        ({"kinds": ["tokens"], "limit": 2}, "02"),
        ({"kinds": ["tokens"], "limit": 2, "offset": 1}, "24"),
        ({"kinds": ["tokens"], "offset": 3}, "68"),
        ({"step_range": (None, None), "limit": 1}, "0"),
    ],
)
async def test_entries_by_filter(usage_store: UsageStore, filters: dict[str, Any], ids: str) -> None:
    await record_mixed(usage_store)
    assert [entry.id for entry in await usage_store.get_entries("s", **filters)] == list(ids)


async def test_entries_of_no_session_are_none(usage_store: UsageStore) -> None:
    assert await usage_store.get_entries("s") == []
    assert await usage_store.get_entries("s", kinds=["tokens"], limit=3) == []


@pytest.mark.parametrize(
    "filters",
    [
        {"step_range": (8, 5)},
        {"time_range": {"start": 2, "end": 1}},
        {"step_range": (1,)},
        {"step_range": 5},
        {"step_range": {"min": 1, "end": 2}},
        {"step_range": {"from": 1}},
        {"step_range": ("1", "2")},
        {"time_range": (1.5, 2)},
        {"time_range": (True, 2)},
        {"kinds": "tokens"},
        {"kinds": [5]},
        {"kinds": 5},
        {"limit": -1},
        {"limit": 1.5},
        {"offset": -1},
        {"offset": None},
    ],
    ids=repr,
)
async def test_filters_that_make_no_sense_are_refused(usage_store: UsageStore, filters: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await usage_store.get_entries("s", **filters)


async def test_filters_find_the_same_in_a_list_of_several_pages(usage_store: UsageStore) -> None:
    await usage_store.record_entries([tokens(id=str(n), stepCount=n) for n in range(25_000)])
    found = await usage_store.get_entries("s", step_range=(9_990, 20_010), kinds=["tokens"])
    assert [entry.step_count for entry in found] == list(range(9_990, 20_011))
    found = await usage_store.get_entries("s", step_range=(5, None), limit=3, offset=19_000)
    assert [entry.step_count for entry in found] == [19_005, 19_006, 19_007]


async def test_exists_count_and_delete(usage_store: UsageStore) -> None:
    assert await usage_store.exists("s") is False
    assert await usage_store.get_entry_count("s") == 0
    assert await usage_store.delete("s") is False
    await usage_store.record_entries([tokens(), tokens()])
    assert await usage_store.exists("s") is True
    assert await usage_store.get_entry_count("s") == 2
    assert await usage_store.delete("s") is True
    assert await usage_store.exists("s") is False
    assert await usage_store.get_entries("s") == []
    assert list(await usage_store.find_session_ids()) == []


async def test_a_deleted_entry_can_be_recorded_again(usage_store: UsageStore) -> None:
    await usage_store.record_entry(tokens(id="a"))
    await usage_store.delete("s")
    assert await usage_store.record_entry(tokens(id="a")) is True


async def test_sessions_are_found_each_once(usage_store: UsageStore) -> None:
    names = {f"session-{n}" for n in range(200)}
    for name in names:
        await usage_store.record_entries([tokens(name), tokens(name)])
    found = await usage_store.find_session_ids()
    assert sorted(found) == sorted(names)
    assert found.cursor is None


@pytest.mark.parametrize("ttl", [86_400, None])
@pytest.mark.parametrize("limit", [1, 7, 30, 300])
async def test_sessions_are_found_page_by_page(make_usage_store: MakeUsageStore, ttl: int | None, limit: int) -> None:
    store = make_usage_store(ttl_seconds=ttl)
    names = [f"session-{n}" for n in range(30)]
    for name in names:
        await store.record_entry(tokens(name))
    found: list[str] = []
    cursor = None
    while True:
        page = await store.find_session_ids(limit=limit, cursor=cursor)
        assert len(page) <= limit
        found += page
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page) == limit
    assert sorted(found) == sorted(names)


async def test_pages_go_on_where_the_last_session_has_been_deleted(make_usage_store: MakeUsageStore) -> None:
    store = make_usage_store(ttl_seconds=0)
    names = {f"session-{n}" for n in range(40)}
    for name in names:
        await store.record_entry(tokens(name))
    page = await store.find_session_ids(limit=20)
    found = list(page)
    await store.delete(found[-1])
    rest = await store.find_session_ids(cursor=page.cursor)
    assert sorted([*found, *rest]) == sorted(names)


async def test_prefixes_keep_sessions_apart(make_usage_store: MakeUsageStore) -> None:
    one, two = make_usage_store(key_prefix="one"), make_usage_store(key_prefix="two")
    await one.record_entry(tokens())
    assert await two.exists("s") is False
    assert list(await two.find_session_ids()) == []
    assert list(await one.find_session_ids()) == ["s"]


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": -1}, {"limit": "5"}, {"cursor": "x"}, {"cursor": ""}, {"cursor": 5}], ids=repr
)
async def test_pages_that_make_no_sense_are_refused(usage_store: UsageStore, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await usage_store.find_session_ids(**options)


async def test_a_closed_store_refuses(usage_store: UsageStore) -> None:
    await usage_store.close()
    await usage_store.close()
    with pytest.raises(StoreClosedError):
        await usage_store.record_entry(tokens())
