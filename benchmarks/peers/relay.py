"""The loads that `resumable-stream` is made for: a reader that follows a stream live, and one that joins late.

That library keeps a stream in the memory of the process that produces it: a reader asks this process through PUBLISH
and gets text back the same way. Nothing but a mark is stored, so a stream is lost with its producer, and readers get
text, no chunks. Ours stores every chunk before it acknowledges the write. Both readers get the same text.

Its documented `create_resumable_stream_context(redis_url=…)` raises TypeError in 0.2.0; publisher and subscriber are
handed in, as its documentation also shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.measure import check
from benchmarks.probe import PATIENCE, reached
from benchmarks.stream_loads import close_and_delete, open_writers
from helix_fast import TextDeltaChunk, connect

from .model import OURS, Arena, Entrant, Load, Turn

NOTE = "text from the memory of its producer, nothing stored"


def relay_sizes(arena: Arena) -> tuple[int, int]:
    """Streams, and chunks of each."""
    return arena.size.pick(100, 100, 5), arena.size.pick(100, 20, 4)


def late_sizes(arena: Arena) -> tuple[int, int]:
    """Stored chunks, and readers that join one after the other."""
    return arena.size.pick(10_000, 10_000, 100), arena.size.pick(5, 2, 1)


@contextlib.asynccontextmanager
async def ours_relay(arena: Arena) -> AsyncIterator[Turn]:
    """A writer and a live reader for each stream."""
    streams_count, each = relay_sizes(arena)
    text = arena.size.payload.text
    async with connect(arena.url) as helix:

        async def turn(prefix: str) -> float:
            names = [f"{prefix}-{number}" for number in range(streams_count)]
            writers = await open_writers(helix.streams, names)
            readers = [await helix.streams.create_resumable_reader(name) for name in names]

            async def produce(number: int) -> None:
                for _ in range(each):
                    await writers[number].write(TextDeltaChunk(delta=text))
                await helix.streams.end_stream(names[number])

            async def consume(number: int) -> None:
                reader = readers[number]
                assert reader is not None
                parts = [getattr(stored.chunk, "delta", "") async for stored in reader]
                check("".join(parts), text * each, "text that arrived")

            reading = asyncio.gather(*map(consume, range(streams_count)))
            await reached(lambda: arena.probe.channels(f"*{{{prefix}-*") >= streams_count, "readers that wait")
            began = time.perf_counter()
            writing = asyncio.gather(*map(produce, range(streams_count)))
            await asyncio.wait_for(asyncio.gather(reading, writing), PATIENCE)
            seconds = time.perf_counter() - began
            await close_and_delete(helix.streams, names, writers)
            return streams_count * each / seconds

        yield turn


@contextlib.asynccontextmanager
async def context_of(arena: Arena, prefix: str) -> AsyncIterator[Any]:
    """A context of resumable-stream with connections of its own."""
    library = importlib.import_module("resumable_stream")
    url = f"unix://{arena.socket_path}"
    publisher, subscriber = library.RedisPublisher(url), library.RedisSubscriber(url)
    await publisher.connect()
    await subscriber.connect()
    try:
        yield library.create_resumable_stream_context(publisher=publisher, subscriber=subscriber, key_prefix=prefix)
    finally:
        await subscriber.close()
        await publisher.close()


async def collect(stream: Any, length: int) -> str:
    """The text of a reader, until it is complete or the stream ends."""
    text = ""
    async for part in stream:
        text += part
        if len(text) >= length:
            break
    return text


@contextlib.asynccontextmanager
async def theirs_relay(arena: Arena) -> AsyncIterator[Turn]:
    """A producer that waits for its reader, which would get the beginning in one piece otherwise."""
    streams_count, each = relay_sizes(arena)
    text = arena.size.payload.text

    async def turn(prefix: str) -> float:
        async with context_of(arena, prefix) as context:
            begin = asyncio.Event()

            async def source() -> AsyncIterator[str]:
                await begin.wait()
                for _ in range(each):
                    yield text

            names = [f"s{number}" for number in range(streams_count)]
            producers = [await context.create_new_resumable_stream(name, source) for name in names]
            await listening(arena, f"{prefix}:rs:request:*", streams_count)
            before = published(arena)
            readers = [await context.resume_existing_stream(name) for name in names]
            # Each producer has answered its reader: from now on chunks are sent one by one.
            await reached(lambda: published(arena) - before >= 2 * streams_count, "answers of the producers")

            async def consume(reader: Any) -> None:
                check(await collect(reader, len(text) * each), text * each, "text that arrived")

            async def drain(producer: Any) -> None:
                async for _ in producer:
                    pass

            began = time.perf_counter()
            begin.set()
            both = [*map(consume, readers), *map(drain, producers)]
            await asyncio.wait_for(asyncio.gather(*both), PATIENCE)
            seconds = time.perf_counter() - began
            for reader in readers:
                await reader.aclose()
            return streams_count * each / seconds

    yield turn


async def listening(arena: Arena, pattern: str, count: int) -> None:
    """Wait for this many subscribed channels: the library does not."""
    await reached(lambda: len(arena.probe.command("PUBSUB", "CHANNELS", pattern)) >= count, f"channels {pattern}")


def published(arena: Arena) -> int:
    """PUBLISH commands that the server has received."""
    return int(arena.probe.info("commandstats").get("cmdstat_publish", {}).get("calls", 0))


@contextlib.asynccontextmanager
async def ours_late(arena: Arena) -> AsyncIterator[Turn]:
    """Readers that read a stream, still going on, from its beginning to its last chunk."""
    count, readers = late_sizes(arena)
    text = arena.size.payload.text
    async with connect(arena.url) as helix:

        async def turn(prefix: str) -> float:
            writers = await open_writers(helix.streams, [prefix])
            await writers[0].write_many(TextDeltaChunk(delta=text) for _ in range(count))
            seconds = 0.0
            for _ in range(readers):
                began = time.perf_counter()
                reader = await helix.streams.create_resumable_reader(prefix)
                assert reader is not None
                parts: list[str] = []
                async with reader:
                    while len(parts) < count:
                        parts += [getattr(stored.chunk, "delta", "") for stored in await reader.read_batch()]
                    found = "".join(parts)
                    seconds += time.perf_counter() - began
                check(found, text * count, "text that arrived")
            await close_and_delete(helix.streams, [prefix], writers)
            return count * readers / seconds

        yield turn


@contextlib.asynccontextmanager
async def theirs_late(arena: Arena) -> AsyncIterator[Turn]:
    """The same; the producer's process must be there to answer."""
    count, readers = late_sizes(arena)
    text = arena.size.payload.text

    async def turn(prefix: str) -> float:
        async with context_of(arena, prefix) as context:
            end, made = asyncio.Event(), asyncio.Event()

            async def source() -> AsyncIterator[str]:
                for _ in range(count):
                    yield text
                made.set()
                await end.wait()

            producer = await context.create_new_resumable_stream("s", source)
            await listening(arena, f"{prefix}:rs:request:*", 1)
            await asyncio.wait_for(made.wait(), PATIENCE)
            seconds = 0.0
            for _ in range(readers):
                began = time.perf_counter()
                reader = await context.resume_existing_stream("s")
                found = await asyncio.wait_for(collect(reader, len(text) * count), PATIENCE)
                seconds += time.perf_counter() - began
                check(found, text * count, "text that arrived")
                await reader.aclose()
            end.set()
            async for _ in producer:
                pass
            return count * readers / seconds

    yield turn


RELAY = Load(
    "100 streams, a live reader each",
    "chunks/s",
    (
        Entrant(OURS, "helix_fast", ours_relay),
        Entrant("resumable-stream", "resumable_stream", theirs_relay, note=NOTE),
    ),
)
RESUME = Load(
    "a reader that comes late to 10 000 chunks",
    "chunks/s",
    (
        Entrant(OURS, "helix_fast", ours_late),
        Entrant("resumable-stream", "resumable_stream", theirs_late, note=NOTE),
    ),
)
