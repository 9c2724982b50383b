"""Stream stores of every backend. What a backend is made of is named here and nowhere in the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio as redis

from helix_fast import RedisResumableStorage, RedisStreamManager
from helix_fast.memory import InMemoryResumableStorage, InMemoryStreamManager, MemoryServer
from tests.support.memory import plain_client

MakeStreams = Callable[..., RedisStreamManager]
MakeStorage = Callable[..., RedisResumableStorage]


@pytest.fixture(params=["embedded", "memory"])
def stream_backend(request: pytest.FixtureRequest) -> Any:
    """Where the streams are: a URL, or a server in memory; a cluster has a name of its own."""
    return request.getfixturevalue("server_url") if request.param == "embedded" else MemoryServer()


@pytest.fixture
async def make_streams(stream_backend: Any) -> AsyncIterator[MakeStreams]:
    """Makes managers of the same streams. Each has connections of its own, as in a process of its own."""
    made: list[RedisStreamManager] = []

    def make(**options: Any) -> RedisStreamManager:
        backend = options.pop("url", stream_backend)
        kind = InMemoryStreamManager if isinstance(backend, MemoryServer) else RedisStreamManager
        manager = kind(backend, **options)
        made.append(manager)
        return manager

    yield make
    for manager in made:
        await manager.close()


@pytest.fixture
def streams(make_streams: MakeStreams) -> RedisStreamManager:
    return make_streams()


@pytest.fixture
async def make_storage(stream_backend: Any) -> AsyncIterator[MakeStorage]:
    """Makes resumable storages of the same streams."""
    made: list[RedisResumableStorage] = []

    def make(**options: Any) -> RedisResumableStorage:
        backend = options.pop("url", stream_backend)
        kind = InMemoryResumableStorage if isinstance(backend, MemoryServer) else RedisResumableStorage
        storage = kind(backend, **options)
        made.append(storage)
        return storage

    yield make
    for storage in made:
        await storage.close()


@pytest.fixture
def storage(make_storage: MakeStorage) -> RedisResumableStorage:
    return make_storage()


@pytest.fixture
async def raw(stream_backend: Any) -> AsyncIterator[redis.Redis]:
    """A plain client: what is in the server, and what a store in another language would put there."""
    memory = isinstance(stream_backend, MemoryServer)
    client = plain_client(stream_backend) if memory else redis.Redis.from_url(stream_backend)
    yield client
    await client.aclose()
