"""Many readers of one stream in one process: an entry is parsed and decoded once, and no reader asks for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from redis.asyncio import Redis

from helix_fast import RedisStreamManager, TextDeltaChunk
from helix_fast.streams.chunks import LineDecoder
from helix_fast.testing.waiting import until
from helix_fast.transport import channels

READERS = 30
ENTRIES = 20


async def test_pushes_from_another_process_are_decoded_once_and_asked_for_never(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any) -> Any:
            calls[name] += 1
            return original(*args)

        monkeypatch.setattr(owner, name, call)

    async with RedisStreamManager(server_url) as writing, RedisStreamManager(server_url) as reading:
        writing._requests.topology.presence.poll_seconds = 600  # a poll has the readers read the log
        writer = await writing.create_writer("s", "agent")
        await writer.write(TextDeltaChunk(delta="0"))
        subscribers = writer._appender.subscribers
        await until(lambda: not subscribers.present)
        got: list[list[Any]] = [[] for _ in range(READERS)]

        async def read(chunks: list[Any]) -> None:
            reader = await reading.create_resumable_reader("s")
            assert reader is not None
            async for stored in reader:
                chunks.append(stored.chunk)  # noqa: PERF401  seen while it goes on

        reading_all = asyncio.gather(*map(read, got))
        await until(lambda: all(got) and subscribers.present)
        for count in (1, 2):  # one that the log may have, behind the message to catch up; then all of them take pushes
            await writer.write(TextDeltaChunk(delta=f"{count}"))
            await until(lambda: all(len(chunks) == count + 1 for chunks in got))  # noqa: B023
        counted(channels.codec, "push_payload")
        counted(LineDecoder, "decode")
        requests = reading._requests.topology.requests
        for number in range(ENTRIES):
            await writer.write(TextDeltaChunk(delta=f"{number + 3}"))
            await until(lambda: all(len(chunks) == number + 4 for chunks in got))  # noqa: B023
        assert calls == {"push_payload": ENTRIES, "decode": ENTRIES}
        assert reading._requests.topology.requests == requests
        monkeypatch.undo()
        await writer.close()
        await writing.end_stream("s")
        await reading_all
    texts = [[chunk.delta for chunk in chunks] for chunks in got]
    assert texts == [[str(number) for number in range(ENTRIES + 3)]] * READERS
    assert len({id(chunk) for chunks in got for chunk in chunks}) == READERS * (ENTRIES + 3)  # no two share a chunk


async def test_live_readers_of_many_streams_share_one_subscription_connection(server_url: str) -> None:
    streams = 100
    async with Redis.from_url(server_url) as asking, RedisStreamManager(server_url) as manager:
        before = {kind: len(await asking.client_list(_type=kind)) for kind in ("normal", "pubsub")}
        writers = [await manager.create_writer(f"s{number}", "agent") for number in range(streams)]
        readers = [await manager.create_resumable_reader(f"s{number}") for number in range(streams)]
        reading = [asyncio.ensure_future(reader.__anext__()) for reader in readers if reader is not None]
        await until(lambda: len(manager._requests.topology.presence.local) >= streams)
        after = {kind: len(await asking.client_list(_type=kind)) for kind in ("normal", "pubsub")}
        assert {kind: after[kind] - before[kind] for kind in after} == {"normal": 1, "pubsub": 1}
        for writer in writers:
            await writer.write(TextDeltaChunk(delta="live"))
            await writer.close()
        assert [stored.sequence for stored in await asyncio.gather(*reading)] == [1] * streams
