"""The recorder: entries taken without waiting, each written once, none lost in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from helix_fast.errors import (
    BufferFullError,
    InvalidArgumentError,
    InvalidIdError,
    MalformedEntryError,
    StoreClosedError,
)
from helix_fast.testing.contract.fixtures import RequestsOf
from helix_fast.testing.contract.usage_helpers import tokens, total
from helix_fast.usage.schema import TokenCounts, TokenUsage


async def recorded(store: Any, count: int) -> None:
    """Until so many entries are there."""
    for _ in range(2000):
        if await store.get_entry_count("s") == count:
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"{await store.get_entry_count('s')} entries in place of {count}")


async def test_leaving_the_recorder_has_written_everything_in_order(usage_store: Any) -> None:
    async with usage_store.recorder("s", linger_ms=60_000) as recorder:
        for n in range(1234):
            recorder.add(tokens(stepCount=n))
    assert [entry.step_count for entry in await usage_store.get_entries("s")] == list(range(1234))
    assert recorder.pending == 0


async def test_entries_are_flushed_after_their_time(usage_store: Any) -> None:
    async with usage_store.recorder("s", linger_ms=10) as recorder:
        recorder.add(tokens())
        await recorded(usage_store, 1)


async def test_entries_are_flushed_when_they_are_many_enough(usage_store: Any) -> None:
    async with usage_store.recorder("s", linger_ms=60_000, max_batch=10) as recorder:
        for _ in range(9):
            recorder.add(tokens())
        await asyncio.sleep(0.05)
        assert await usage_store.get_entry_count("s") == 0
        recorder.add(tokens())
        await recorded(usage_store, 10)


async def test_a_flush_leaves_the_next_entry_to_linger(usage_store: Any) -> None:
    async with usage_store.recorder("s", linger_ms=60_000) as recorder:
        recorder.add(tokens())
        await recorder.flush()
        assert await usage_store.get_entry_count("s") == 1
        recorder.add(tokens())
        await asyncio.sleep(0.05)
        assert await usage_store.get_entry_count("s") == 1


async def test_many_entries_are_few_requests(usage_store: Any, requests_of: RequestsOf) -> None:
    async with usage_store.recorder("s", max_batch=500) as recorder:
        before = requests_of(usage_store)
        for _ in range(5000):
            recorder.add(tokens())
    assert requests_of(usage_store) - before <= 12
    assert await total(usage_store) == 5000 * 150


async def test_the_session_and_the_id_are_filled_in(usage_store: Any) -> None:
    entry = tokens()
    del entry["sessionId"]
    async with usage_store.recorder("s") as recorder:
        made = recorder.add(entry)
        given = recorder.add(TokenUsage(id="mine", session_id="s", model="m", tokens=TokenCounts()))
        again = recorder.add(tokens(id="mine"))
    assert [entry.id for entry in await usage_store.get_entries("s")] == [made, "mine"]
    assert given == again == "mine"


@pytest.mark.parametrize("entry", [tokens("t"), tokens(tokens={"prompt": -1}), {}, None], ids=repr)
async def test_a_malformed_entry_is_refused_at_once(usage_store: Any, entry: Any) -> None:
    async with usage_store.recorder("s") as recorder:
        recorder.add(tokens())
        with pytest.raises(MalformedEntryError):
            recorder.add(entry)
        assert recorder.pending == 1
    assert await usage_store.get_entry_count("s") == 1


async def test_a_full_recorder_refuses_until_it_is_flushed(usage_store: Any) -> None:
    async with usage_store.recorder("s", max_pending=3) as recorder:
        for _ in range(3):
            recorder.add(tokens())
        with pytest.raises(BufferFullError):
            recorder.add(tokens())
        await recorder.flush()
        recorder.add(tokens())
    assert await usage_store.get_entry_count("s") == 4


async def test_a_closed_recorder_refuses(usage_store: Any) -> None:
    recorder = usage_store.recorder("s")
    recorder.add(tokens())
    await recorder.close()
    await recorder.close()
    with pytest.raises(StoreClosedError):
        recorder.add(tokens())
    assert await usage_store.get_entry_count("s") == 1


async def test_closing_the_store_flushes_its_recorders(make_usage_store: Callable[..., Any]) -> None:
    store = make_usage_store()
    recorder = store.recorder("s", linger_ms=60_000)
    recorder.add(tokens())
    await store.close()
    assert await make_usage_store().get_entry_count("s") == 1
    with pytest.raises(StoreClosedError):
        recorder.add(tokens())


async def test_a_cancelled_flush_loses_nothing(usage_store: Any) -> None:
    async with usage_store.recorder("s", linger_ms=60_000) as recorder:
        recorder.add(tokens())
        flushing = asyncio.create_task(recorder.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        assert flushing.cancelled()
    assert await usage_store.get_entry_count("s") == 1


@pytest.mark.parametrize(
    "options",
    [{"max_batch": 0}, {"max_batch": 100_001}, {"max_batch": 1.5}, {"linger_ms": -1}, {"max_pending": 0}],
    ids=repr,
)
async def test_recorder_settings_that_make_no_sense_are_refused(usage_store: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        usage_store.recorder("s", **options)


@pytest.mark.parametrize("session", ["", "a{b}", "line\n", "x" * 513])
async def test_no_recorder_of_an_id_that_cannot_be_a_key(usage_store: Any, session: str) -> None:
    with pytest.raises(InvalidIdError):
        usage_store.recorder(session)
