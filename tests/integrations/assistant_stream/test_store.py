"""HelixResumableStreamStore: the owner's in-memory store as the oracle, and what its Redis store does not do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("assistant_stream.resumable")

from assistant_stream.resumable import (
    ResumableStreamError,
    create_in_memory_resumable_stream_store,
    create_redis_resumable_stream_store,
    create_resumable_stream_context,
)
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from helix_fast import Helix, connect
from helix_fast.integrations.assistant_stream import HelixResumableStreamStore
from tests.support.proxy import FaultProxy


async def read(store: Any, stream: str = "s", cursor: str = "") -> list[Any]:
    return [entry async for entry in store.read(stream, cursor, asyncio.Event())]


async def test_bytes_come_back_exactly_from_any_cursor(helix: Helix) -> None:
    store = HelixResumableStreamStore(helix)
    assert await store.acquire("s") == "producer"
    chunks = [bytes(range(256)), b"", b"\x00\xff\n", "Löök".encode(), *(b"%d" % n for n in range(450))]
    for chunk in chunks:
        await store.append("s", chunk)
    await store.finalize("s", "done")
    entries = await read(store)
    assert [entry.chunk for entry in entries] == chunks
    assert await read(store, cursor=entries[2].cursor) == entries[3:]
    assert await read(store, cursor=entries[-1].cursor) == []
    assert await read(store, cursor="no cursor") == entries


async def test_it_answers_as_their_store_in_memory(helix: Helix) -> None:
    async def outcomes(store: Any) -> list[Any]:
        found: list[Any] = []

        async def note(call: Any) -> None:
            try:
                found.append(await call)
            except (RuntimeError, ResumableStreamError) as error:
                found.append((type(error), str(error), getattr(error, "code", None)))

        async def chunks() -> list[bytes]:
            return [entry.chunk for entry in await read(store)]

        await note(store.append("s", b"a"))
        await note(store.finalize("s", "done"))
        await note(chunks())
        for end in [("done",), ("error", "broken"), ("error",), ("error", "")]:
            await note(store.status("s"))
            await note(asyncio.gather(*(store.acquire("s") for _ in range(1))))
            await note(store.acquire("s"))
            await note(store.append("s", b"a"))
            await note(store.status("s"))
            await note(store.finalize("s", *end))
            await note(store.finalize("s", "done"))
            await note(store.append("s", b"b"))
            await note(store.acquire("s"))
            await note(store.status("s"))
            await note(chunks())
            await note(store.delete("s"))
            await note(store.delete("s"))
        await note(store.acquire("not an id"))
        return found

    theirs = await outcomes(create_in_memory_resumable_stream_store())
    assert await outcomes(HelixResumableStreamStore(helix)) == theirs


async def test_one_of_many_produces_and_all_read_it_as_it_comes(helix: Helix) -> None:
    asked: asyncio.Queue[bytes | None] = asyncio.Queue()
    made = 0

    async def produce() -> AsyncIterator[bytes]:
        nonlocal made
        made += 1
        while (chunk := await asked.get()) is not None:
            yield chunk

    contexts = [create_resumable_stream_context(store=HelixResumableStreamStore(helix)) for _ in range(3)]
    readers = await asyncio.gather(*(context.run("s", produce) for context in contexts))
    for chunk in (b"a", b"b"):
        asked.put_nowait(chunk)
        assert await asyncio.wait_for(asyncio.gather(*map(anext, readers)), 60) == [chunk] * 3
    asked.put_nowait(None)
    for reader in readers:
        assert [chunk async for chunk in reader] == []
    assert made == 1
    late = await contexts[0].resume("s")
    assert late is not None
    assert [chunk async for chunk in late] == [b"a", b"b"]


@pytest.mark.parametrize("end", ["signal", "delete", "error"])
async def test_a_waiting_reader_ends(helix: Helix, end: str) -> None:
    store, signal = HelixResumableStreamStore(helix), asyncio.Event()
    await store.acquire("s")
    await store.append("s", b"a")
    reader = store.read("s", "", signal)
    assert (await anext(reader)).chunk == b"a"
    waiting = asyncio.ensure_future(anext(reader, None))
    await asyncio.sleep(0)
    if end == "signal":
        signal.set()
    elif end == "delete":
        await store.delete("s")
    else:
        await store.finalize("s", "error", "broken")
        with pytest.raises(RuntimeError, match="broken"):
            await asyncio.wait_for(waiting, 60)
        return
    assert await asyncio.wait_for(waiting, 60) is None


@pytest.mark.faults
async def test_a_change_whose_reply_is_lost_is_made_once(fault_proxy: FaultProxy, server_url: str) -> None:
    async with connect(fault_proxy.url) as helix, connect(server_url) as direct:
        store = HelixResumableStreamStore(helix)
        await store.status("s")
        fault_proxy.cut_after_reply_bytes(0)
        assert await store.acquire("s") == "producer"
        fault_proxy.cut_after_reply_bytes(0)
        await store.append("s", b"a")
        fault_proxy.cut_after_reply_bytes(0)
        await store.finalize("s", "done")
        assert [entry.chunk for entry in await read(HelixResumableStreamStore(direct))] == [b"a"]


@pytest.mark.faults
async def test_a_lost_reply_doubles_a_chunk_in_their_redis_store_and_not_in_ours(fault_proxy: FaultProxy) -> None:
    retry = Retry(NoBackoff(), 3)  # as it is by default over TCP
    async with Redis.from_url(fault_proxy.url, retry=retry) as client, connect(fault_proxy.url) as helix:
        theirs, ours = create_redis_resumable_stream_store(client), HelixResumableStreamStore(helix)
        found = []
        for store, name in ((theirs, "theirs"), (ours, "ours")):
            await store.acquire(name)
            read_first = 0
            if store is theirs:  # it reads this before it appends
                meta = await client.get("aui:resumable:{theirs}:meta")
                read_first = len(b"$%d\r\n%b\r\n" % (len(meta), meta)) + 1
            fault_proxy.cut_after_reply_bytes(read_first)
            await store.append(name, b"a")
            fault_proxy.heal()
            await store.finalize(name, "done")
            found.append([entry.chunk for entry in await read(store, name)])
        assert found == [[b"a", b"a"], [b"a"]]
