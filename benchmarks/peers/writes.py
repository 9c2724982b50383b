"""The load of P2 for other clients: 1 000 tasks, a stream each, every write awaited before the next.

The others get encoded bytes and neither trim nor count; ours encodes, trims and counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import redis.asyncio as redis

from benchmarks.baselines.pydantic_store import POOL
from benchmarks.measure import check
from benchmarks.payloads import chunk_json
from benchmarks.stream_loads import check_last, close_and_delete, open_writers, write_each
from helix_fast import connect

from .model import OURS, Arena, Entrant, Load, Turn

Write = Callable[[str], Awaitable[Any]]
"""Append the chunk to the stream of this key, and wait for the answer."""
TCP = f"{OURS} over TCP"
PIPELINE = 100


def sizes(arena: Arena) -> tuple[int, int]:
    """Tasks, and chunks of each."""
    return arena.size.pick(1_000, 1_000, 20), arena.size.pick(20, 5, 2)


def ours(over_tcp: bool) -> Callable[[Arena], contextlib.AbstractAsyncContextManager[Turn]]:
    """helix-fast, by socket or TCP, with more chunks, so that a turn is long enough to be measured."""

    @contextlib.asynccontextmanager
    async def enter(arena: Arena) -> AsyncIterator[Turn]:
        tasks, each = sizes(arena)
        each *= 5
        async with connect(arena.tcp_url if over_tcp else arena.url) as helix:

            async def turn(prefix: str) -> float:
                names = [f"{prefix}-{number}" for number in range(tasks)]
                writers = await open_writers(helix.streams, names)
                began = time.perf_counter()
                await asyncio.gather(*(write_each(writer, each, arena.size.payload.text) for writer in writers))
                seconds = time.perf_counter() - began
                await check_last(helix.streams, names, each)
                await close_and_delete(helix.streams, names, writers)
                return tasks * each / seconds

            yield turn

    return enter


def turn_of(arena: Arena, write: Write, chunks: int = 1) -> Turn:
    """A turn of a client. With several chunks at a time it writes to fewer streams, so that the turn is as long."""
    tasks, each = sizes(arena)
    tasks, calls = (tasks, each) if chunks == 1 else (max(POOL, tasks * each // chunks), 1)

    async def turn(prefix: str) -> float:
        async def task(number: int) -> None:
            key = f"{prefix}-{number}"
            for _ in range(calls):
                await write(key)

        began = time.perf_counter()
        await asyncio.gather(*map(task, range(tasks)))
        seconds = time.perf_counter() - began
        keys = [f"{prefix}-{number}" for number in range(tasks)]
        written = tasks * calls * chunks
        check(arena.probe.lengths(keys), written, "entries that were written")
        arena.probe.command("UNLINK", *keys)
        return written / seconds

    return turn


@contextlib.asynccontextmanager
async def redis_client(arena: Arena) -> AsyncIterator[tuple[redis.Redis, asyncio.Semaphore]]:
    """redis-py on a pool of 50."""
    path = arena.socket_path
    pool = redis.ConnectionPool(connection_class=redis.UnixDomainSocketConnection, path=path, max_connections=POOL)
    client = redis.Redis(connection_pool=pool)
    try:
        yield client, asyncio.Semaphore(POOL)
    finally:
        await client.aclose()
        await pool.disconnect()


@contextlib.asynccontextmanager
async def redis_py(arena: Arena) -> AsyncIterator[Turn]:
    """redis-py without pydantic."""
    fields: Any = {"chunk": chunk_json(arena.size.payload.text), "sequence": 1}
    async with redis_client(arena) as (client, places):

        async def write(key: str) -> None:
            async with places:
                await client.xadd(key, fields)

        yield turn_of(arena, write)


@contextlib.asynccontextmanager
async def redis_py_pipeline(arena: Arena) -> AsyncIterator[Turn]:
    """redis-py, a pipeline for each hundred chunks."""
    fields: Any = {"chunk": chunk_json(arena.size.payload.text), "sequence": 1}
    async with redis_client(arena) as (client, places):

        async def write(key: str) -> None:
            async with places:
                pipeline = client.pipeline(transaction=False)
                for _ in range(PIPELINE):
                    pipeline.xadd(key, fields)
                await pipeline.execute()

        yield turn_of(arena, write, PIPELINE)


@contextlib.asynccontextmanager
async def coredis(arena: Arena) -> AsyncIterator[Turn]:
    """coredis on its pool of 50, whose connections it pipelines by itself."""
    library = importlib.import_module("coredis")
    client: Any = library.Redis.from_url(f"unix://{arena.socket_path}", max_connections=POOL)
    fields: Any = {"chunk": chunk_json(arena.size.payload.text), "sequence": "1"}
    async with client:
        yield turn_of(arena, lambda key: client.xadd(key, field_values=fields))


@contextlib.asynccontextmanager
async def valkey_glide(arena: Arena) -> AsyncIterator[Turn]:
    """valkey-glide: one multiplexed connection. It has no unix sockets."""
    glide = importlib.import_module("glide")
    address = glide.NodeAddress("127.0.0.1", arena.port)
    client = await glide.GlideClient.create(glide.GlideClientConfiguration([address], request_timeout=10_000))
    fields: Any = [("chunk", chunk_json(arena.size.payload.text)), ("sequence", "1")]
    try:
        yield turn_of(arena, lambda key: client.xadd(key, fields))
    finally:
        await client.close()


WRITES = Load(
    "1 000 streams, every write awaited",
    "chunks/s",
    (
        Entrant(OURS, "helix_fast", ours(False)),
        Entrant(TCP, "helix_fast", ours(True)),
        Entrant("redis-py", "redis", redis_py),
        Entrant("redis-py, pipelines", "redis", redis_py_pipeline, note="100 chunks at a time, none awaited alone"),
        Entrant("coredis", "coredis", coredis),
        Entrant("valkey-glide", "glide", valkey_glide, TCP, note="over TCP"),
    ),
)
