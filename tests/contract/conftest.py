"""Stream stores of every backend. What a backend is made of is named here and nowhere in the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio as redis

from helix_fast import RedisResumableStorage, RedisStreamManager

MakeStreams = Callable[..., RedisStreamManager]
MakeStorage = Callable[..., RedisResumableStorage]


@pytest.fixture(params=["embedded"])
def stream_backend(request: pytest.FixtureRequest) -> str:
    """Where the streams are; memory and cluster have names of their own."""
    return str(request.param)


@pytest.fixture
async def make_streams(stream_backend: str, server_url: str) -> AsyncIterator[MakeStreams]:
    """Makes managers of the same streams. Each has connections of its own, as in a process of its own."""
    made: list[RedisStreamManager] = []

    def make(**options: Any) -> RedisStreamManager:
        manager = RedisStreamManager(options.pop("url", server_url), **options)
        made.append(manager)
        return manager

    yield make
    for manager in made:
        await manager.close()


@pytest.fixture
def streams(make_streams: MakeStreams) -> RedisStreamManager:
    return make_streams()


@pytest.fixture
async def make_storage(stream_backend: str, server_url: str) -> AsyncIterator[MakeStorage]:
    """Makes resumable storages of the same streams."""
    made: list[RedisResumableStorage] = []

    def make(**options: Any) -> RedisResumableStorage:
        storage = RedisResumableStorage(options.pop("url", server_url), **options)
        made.append(storage)
        return storage

    yield make
    for storage in made:
        await storage.close()


@pytest.fixture
def storage(make_storage: MakeStorage) -> RedisResumableStorage:
    return make_storage()


@pytest.fixture
async def raw(server_url: str) -> AsyncIterator[redis.Redis]:
    """A plain client: what is in the server, and what a store in another language would put there."""
    client = redis.Redis.from_url(server_url)
    yield client
    await client.aclose()
