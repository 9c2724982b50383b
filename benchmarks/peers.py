"""Other clients under the load of P2, as their documentation says it is done best. Those not installed are left out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import redis.asyncio as redis

from helix_fast.embedded import EmbeddedServer

from .baselines.pydantic_store import POOL
from .measure import Size, check
from .payloads import HEADLINE, chunk_json
from .probe import Probe

Write = Callable[[str], Awaitable[Any]]
"""Append the headline chunk to the stream of this key, and wait for the answer."""
CHUNK = chunk_json(HEADLINE)


@contextlib.asynccontextmanager
async def redis_py(path: str) -> AsyncIterator[Write]:
    """redis-py without pydantic, on a pool of 50."""
    pool = redis.ConnectionPool(connection_class=redis.UnixDomainSocketConnection, path=path, max_connections=POOL)
    client = redis.Redis(connection_pool=pool)
    places = asyncio.Semaphore(POOL)

    async def write(key: str) -> None:
        async with places:
            await client.xadd(key, {"chunk": CHUNK, "sequence": 1})

    try:
        yield write
    finally:
        await client.aclose()
        await pool.disconnect()


@contextlib.asynccontextmanager
async def coredis(path: str) -> AsyncIterator[Write]:
    """coredis on its pool of 50, whose connections it pipelines by itself."""
    library = importlib.import_module("coredis")

    client: Any = library.Redis.from_url(f"unix://{path}", max_connections=POOL)
    fields: Any = {"chunk": CHUNK, "sequence": "1"}
    async with client:
        yield lambda key: client.xadd(key, field_values=fields)


@contextlib.asynccontextmanager
async def valkey_glide(path: str) -> AsyncIterator[Write]:
    """valkey-glide: one multiplexed connection. It has no unix sockets, so it is given a TCP port of the server."""
    glide = importlib.import_module("glide")

    address = glide.NodeAddress("127.0.0.1", int(path))
    client = await glide.GlideClient.create(glide.GlideClientConfiguration([address], request_timeout=10_000))
    try:
        yield lambda key: client.xadd(key, [("chunk", CHUNK), ("sequence", "1")])
    finally:
        await client.close()


PEERS = {
    "redis-py": (redis_py, "redis", False),
    "coredis": (coredis, "coredis", False),
    "valkey-glide": (valkey_glide, "glide", True),
}


async def load(write: Write, prefix: str, tasks: int, each: int) -> float:
    """So many tasks, each with its own stream, each awaiting each answer; chunks a second."""

    async def task(number: int) -> None:
        key = f"{prefix}-{number}"
        for _ in range(each):
            await write(key)

    gc.collect()
    began = time.perf_counter()
    await asyncio.gather(*map(task, range(tasks)))
    return tasks * each / (time.perf_counter() - began)


async def take_peers(size: Size, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Chunks a second of each peer that is installed, in turns; the median of the runs."""
    tasks, each = size.pick(1_000, 1_000, 20), size.pick(20, 5, 2)
    found: dict[str, list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        port = free_port()
        server = await stack.enter_async_context(EmbeddedServer(options={"port": str(port), "bind": "127.0.0.1"}))
        probe = Probe(server.socket_path)
        writes: dict[str, Write] = {}
        for name, (make, module, over_tcp) in PEERS.items():
            if importlib.util.find_spec(module) is None:
                continue
            try:
                writes[name] = await stack.enter_async_context(make(str(port) if over_tcp else server.socket_path))
            except Exception as error:
                # Another version of a peer, with another interface, must not cost the run.
                say(f"peer {name} left out: {type(error).__name__}: {error}")
        for run in range(size.runs):
            for name in list(writes):
                prefix = f"{name}-{run}"
                try:
                    rate = await load(writes[name], prefix, tasks, each)
                except Exception as error:
                    say(f"peer {name} left out: {type(error).__name__}: {error}")
                    del writes[name]
                    continue
                keys = [f"{prefix}-{number}" for number in range(tasks)]
                check(probe.lengths(keys), tasks * each, f"entries that {name} wrote")
                found.setdefault(name, []).append(rate)
        probe.flush()
    return {
        name: {"value": statistics.median(found[name]), "unit": "chunks/s", "what": "load of P2", "runs": found[name]}
        for name in writes
    }


def free_port() -> int:
    """A TCP port that is free now."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
