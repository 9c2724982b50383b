"""What the tests of stored totals share: sessions of 700 entries of one token each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast import codec
from helix_fast.keys import UsageKeys
from helix_fast.testing.contract.usage_helpers import tokens, total
from helix_fast.usage import totals as usage_totals
from helix_fast.usage.store import RedisUsageStore

KEYS = UsageKeys("helix", "s")
COUNT = 700


def ones(count: int, prefix: str = "e", each: int = 1) -> list[dict[str, Any]]:
    return [tokens(id=f"{prefix}{n}", tokens={"total": each}) for n in range(count)]


async def record_and_store(store: RedisUsageStore) -> None:
    """Record the entries, add them up, and find the totals stored."""
    await store.record_entries(ones(COUNT))
    assert await total(store) == COUNT
    assert await place(store) == COUNT


async def summed(server_url: str) -> AsyncIterator[RedisUsageStore]:
    """A store that has recorded COUNT entries, added them up, and stored the totals; a fixture of its users."""
    async with RedisUsageStore(server_url, ttl_seconds=1000) as made:
        await record_and_store(made)
        yield made


async def totals(store: RedisUsageStore) -> dict[bytes, bytes]:
    found = await store._requests.command("s", "HGETALL", KEYS.totals)
    return dict(zip(found[::2], found[1::2], strict=True))


async def place(store: RedisUsageStore) -> int:
    """Entries that the stored totals cover."""
    return int((await totals(store)).get(b"place", 0))


async def cold(url: str) -> int | None:
    """The rollup of who has read nothing."""
    async with RedisUsageStore(url) as reading:
        return await total(reading)


def held_back(store: RedisUsageStore, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The requests to store totals that this store makes from now on: they are not sent."""
    held: list[bytes] = []

    def hold(_session_id: str, keys: UsageKeys, cached: Any) -> None:
        frame = usage_totals.frame(keys, cached.cursor, cached.rollup)
        assert frame is not None
        held.append(frame)
        cached.stored = cached.cursor.read

    monkeypatch.setattr(store._rollups, "_store_totals", hold)
    return held


async def until_stored(store: RedisUsageStore) -> None:
    """By whoever did not wait for it."""
    for _ in range(2000):
        if await totals(store):
            return
        await asyncio.sleep(0.002)
    raise AssertionError("no totals are stored")


async def spoil(store: RedisUsageStore, each: int) -> None:
    """Stored sums that tell on who believes them."""
    wrong = codec.Rollup()
    wrong.add([json.dumps(entry).encode() for entry in ones(COUNT, each=each)])
    sums = usage_totals.dump(wrong)
    assert sums is not None
    await store._requests.command("s", "HSET", KEYS.totals, "sums", sums)
