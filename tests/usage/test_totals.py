"""Totals on the server: believed only of the very list that they were made of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helix_fast import codec
from helix_fast.errors import HelixError
from helix_fast.testing.contract.usage_helpers import tokens, total
from helix_fast.usage import pages as usage_pages
from helix_fast.usage import rollup
from helix_fast.usage import totals as usage_totals
from helix_fast.usage.store import RedisUsageStore
from tests.support.usage_totals import (
    COUNT,
    KEYS,
    cold,
    held_back,
    ones,
    place,
    spoil,
    summed,
    totals,
)

pytestmark = pytest.mark.faults

WEEK_MS = 7 * 86_400_000
Change = Callable[[RedisUsageStore], Awaitable[Any]]


store = pytest.fixture(summed)


async def test_totals_are_believed_where_they_are_those_of_the_list(store: RedisUsageStore, server_url: str) -> None:
    await spoil(store, 5)
    assert await cold(server_url) == 5 * COUNT
    await store.record_entries(ones(30, "more"))
    assert await cold(server_url) == 5 * COUNT + 30


# Lists that are not that list any more


async def deleted_and_recorded_again(store: RedisUsageStore) -> None:
    found = await totals(store)
    await store.delete("s")
    await store.record_entries(ones(COUNT, each=2))
    if found:  # another reader may have stored them again
        await store._requests.command("s", "HSET", KEYS.totals, *(part for item in found.items() for part in item))


async def made_anew_by_a_program_that_knows_no_nonces(store: RedisUsageStore) -> None:
    entries = await store._requests.command("s", "LRANGE", KEYS.entries, 0, -1)
    await store._requests.command("s", "DEL", KEYS.entries)
    changed = [entry.replace(b'"total":1', b'"total":2').replace(b'"e', b'"f') for entry in entries[1:]]
    await store._requests.command("s", "RPUSH", KEYS.entries, entries[0], *changed, *changed)


async def cut_at_the_end(store: RedisUsageStore) -> None:
    await store._requests.command("s", "LTRIM", KEYS.entries, 0, -2)


async def cut_and_grown(store: RedisUsageStore) -> None:
    await cut_at_the_end(store)
    await store.record_entries(ones(10, "more"))


async def cut_at_the_beginning(store: RedisUsageStore) -> None:
    await store._requests.command("s", "LTRIM", KEYS.entries, 1, -1)
    await store.record_entries(ones(10, "more"))


async def deleted_by_a_program_and_recorded_again(store: RedisUsageStore) -> None:
    await store._requests.command("s", "DEL", KEYS.entries)
    await store.record_entries(ones(COUNT, each=2))


async def ids_lost(store: RedisUsageStore) -> None:
    await store._requests.command("s", "DEL", KEYS.ids)


LISTS = [
    deleted_and_recorded_again, made_anew_by_a_program_that_knows_no_nonces, cut_at_the_end, cut_and_grown,
    cut_at_the_beginning, deleted_by_a_program_and_recorded_again, ids_lost,
]  # fmt: skip


async def counted(store: RedisUsageStore) -> int:
    """What the entries that are there add up to."""
    sums = codec.Rollup()
    sums.add(await store._requests.command("s", "LRANGE", KEYS.entries, 0, -1))
    return sum(values[5] for values in sums.export()[4][0].values())


@pytest.mark.parametrize("change", LISTS)
async def test_totals_of_another_list_are_not_believed_and_are_replaced(
    store: RedisUsageStore, server_url: str, change: Change
) -> None:
    await spoil(store, 5)
    await change(store)
    expected = await counted(store)
    assert expected != 5 * COUNT
    async with RedisUsageStore(server_url) as reading:
        assert await total(reading) == expected
        assert await place(reading) == await reading.get_entry_count("s")
    assert await cold(server_url) == expected


@pytest.mark.parametrize("change", LISTS)
async def test_totals_of_a_list_that_is_gone_are_not_stored(
    server_url: str, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went between the reading and the storing: here the storing waits until the change is done."""
    async with RedisUsageStore(server_url) as late:
        held = held_back(late, monkeypatch)
        await late.record_entries(ones(COUNT))
        assert await total(late) == COUNT
        await change(late)
        await late._requests.command("s", "DEL", KEYS.totals)
        (frame,) = held
        assert await late._requests.topology.call("s", frame) == 0
        assert await totals(late) == {}


async def test_totals_that_cover_less_never_replace_those_that_cover_more(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RedisUsageStore(server_url) as late, RedisUsageStore(server_url) as other:
        held = held_back(late, monkeypatch)
        await late.record_entries(ones(COUNT))
        assert await total(late) == COUNT
        await other.record_entries(ones(COUNT, "more"))
        assert await total(other) == 2 * COUNT
        before = await totals(other)
        assert int(before[b"place"]) == 2 * COUNT
        (frame,) = held
        assert await late._requests.topology.call("s", frame) == 0
        assert await totals(other) == before
        assert await total(late) == 2 * COUNT
        # The other way round they are replaced, and any number of times is as good as one
        assert [await late._requests.topology.call("s", frame) for frame in (held[1], held[1])] == [0, 0]
        await other._requests.command("s", "DEL", KEYS.totals)
        assert [await late._requests.topology.call("s", frame) for frame in (held[0], held[1], held[1], held[0])] == [
            1,
            1,
            0,
            0,
        ]
        assert await totals(other) == before


# What is stored, and of no use


async def of_another_format(store: RedisUsageStore) -> None:
    await spoil(store, 5)
    await store._requests.command("s", "HSET", KEYS.totals, "format", "1")


async def without_a_format(store: RedisUsageStore) -> None:
    await spoil(store, 5)
    await store._requests.command("s", "HDEL", KEYS.totals, "format")


def with_field(name: str, value: str | bytes | None) -> Change:
    async def change(store: RedisUsageStore) -> None:
        if value is None:
            await store._requests.command("s", "HDEL", KEYS.totals, name)
        else:
            await store._requests.command("s", "HSET", KEYS.totals, name, value)

    change.__name__ = f"{name} is {value!r:.40}"
    return change


async def of_other_entries(store: RedisUsageStore) -> None:
    """As whole as can be, but of one entry fewer than they say."""
    fewer = codec.Rollup()
    fewer.add((await store._requests.command("s", "LRANGE", KEYS.entries, 0, -1))[:-1])
    sums = usage_totals.dump(fewer)
    assert sums is not None
    await store._requests.command("s", "HSET", KEYS.totals, "sums", sums)


PLACES = ["", "0", "-5", "+700", "7e2", "0x2BC", "700.0", "nan", "inf", "9" * 400, "701", " 700", "a"]
SUMS = ["", "{", "null", "[]", "5", "[" * 100_000, '"text"', "[700,0,null,null,[{},{},{},{},{}],[]]", b"\xff", None]
USELESS = [
    of_another_format, without_a_format, of_other_entries, with_field("nonce", "x"), with_field("nonce", None),
    with_field("digest", "0" * 40), with_field("digest", None), with_field("place", None),
    *(with_field("place", text) for text in PLACES), *(with_field("sums", sums) for sums in SUMS),
]  # fmt: skip


@pytest.mark.parametrize("change", USELESS, ids=lambda change: change.__name__)
async def test_totals_of_no_use_are_as_if_they_were_not_there_and_are_replaced(
    store: RedisUsageStore, server_url: str, change: Change
) -> None:
    right = await totals(store)
    await change(store)
    reported: list[HelixError] = []
    async with RedisUsageStore(server_url) as reading:
        reading.on("error", reported.append)
        before = reading._requests.topology.requests
        assert await total(reading) == COUNT
        assert (
            reading._requests.topology.requests <= before + 5
        )  # at most two first pages, and a plain one with its check
        assert await totals(reading) == right
    assert reported == []


async def test_a_key_of_another_type_is_left_alone(store: RedisUsageStore, server_url: str) -> None:
    await store._requests.command("s", "SET", KEYS.totals, "mine")
    assert await cold(server_url) == COUNT
    assert await store._requests.command("s", "GET", KEYS.totals) == b"mine"
    await store.delete("s")
    assert await store._requests.command("s", "EXISTS", KEYS.totals) == 0


# Times to live


async def test_totals_live_as_long_as_the_list_has_still_to_live(store: RedisUsageStore, server_url: str) -> None:
    assert 0 < await store._requests.command("s", "PTTL", KEYS.totals) <= 1_000_000
    await store._requests.command("s", "PEXPIRE", KEYS.entries, 60_000)
    await store.record_entries([])
    await store._requests.command("s", "DEL", KEYS.totals)
    assert await cold(server_url) == COUNT
    assert 0 < await store._requests.command("s", "PTTL", KEYS.totals) <= 60_000


async def test_totals_of_a_list_that_stays_are_not_left_for_ever(server_url: str) -> None:
    async with RedisUsageStore(server_url, ttl_seconds=None) as store:
        await store.record_entries(ones(COUNT))
        assert await total(store) == COUNT
        assert 0 < await store._requests.command("s", "PTTL", KEYS.totals) <= WEEK_MS


async def test_totals_that_expire_first_are_stored_again(store: RedisUsageStore, server_url: str) -> None:
    await store._requests.command("s", "PEXPIRE", KEYS.totals, 1)
    for _ in range(2000):
        if not await totals(store):
            break
        await asyncio.sleep(0.002)
    assert await cold(server_url) == COUNT
    assert await place(store) == COUNT


async def test_deletion_takes_them_along(store: RedisUsageStore) -> None:
    assert await store.delete("s") is True
    assert await totals(store) == {}


# Long lists behind them


async def test_what_follows_is_read_in_plain_pages(
    store: RedisUsageStore, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_pages, "FIRST_PAGE", 10)
    monkeypatch.setattr(usage_pages, "PLAIN_BYTES", 4000)
    await store.record_entries(ones(400, "more"))
    async with RedisUsageStore(server_url) as reading:
        run, scripts = reading._requests.run, 0

        async def counting(*args: Any, **options: Any) -> Any:
            nonlocal scripts
            scripts += 1
            return await run(*args, **options)

        monkeypatch.setattr(reading._requests, "run", counting)
        monkeypatch.setattr(rollup, "STORE_EVERY", 400)
        assert await total(reading) == COUNT + 400
        assert scripts == 1
        assert await place(reading) == COUNT + 400


async def test_entries_themselves_are_never_taken_from_totals(store: RedisUsageStore) -> None:
    assert len(await store.get_entries("s")) == COUNT
    assert len(await store.get_entries("s", kinds=["tokens"])) == COUNT


# What does not pay, or cannot be written as JSON


@pytest.mark.parametrize(
    "entries",
    [
        [tokens(model=f"model-{n % 40}") for n in range(COUNT)],
        [tokens(kind="subagent", agentType="a", subSessionId=f"child-{n}") for n in range(COUNT)],
        [tokens(kind="custom", type="c", value=1.7e308) for _ in range(COUNT)],
    ],
    ids=["many names", "many children", "infinite sums"],
)
async def test_such_sums_are_not_stored(server_url: str, entries: list[dict[str, Any]]) -> None:
    async with RedisUsageStore(server_url) as store:
        await store.record_entries(entries)
        first = await store.get_rollup("s")
        assert first is not None
        assert first.entry_count == COUNT
        assert await totals(store) == {}
