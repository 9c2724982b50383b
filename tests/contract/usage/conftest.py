"""Usage stores of every backend. What a backend is made of is named here and nowhere in the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from helix_fast.memory.server import MemoryServer
from helix_fast.memory.usage import InMemoryUsageStore
from helix_fast.redis.usage import RedisUsageStore
from tests.support.usage import MakeUsageStore


@pytest.fixture(params=["redis", "memory"])
def usage_url(request: pytest.FixtureRequest) -> str | None:
    """The server's URL; None in memory."""
    return cast("str", request.getfixturevalue("server_url")) if request.param == "redis" else None


@pytest.fixture
async def make_usage_store(usage_url: str | None) -> AsyncIterator[MakeUsageStore]:
    """Makes stores of the same usage. Each has connections and sums of its own, as in a process of its own."""
    made: list[RedisUsageStore] = []
    server = MemoryServer()

    def make(**options: Any) -> RedisUsageStore:
        made.append(
            InMemoryUsageStore(server, **options) if usage_url is None else RedisUsageStore(usage_url, **options)
        )
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def usage_store(make_usage_store: MakeUsageStore) -> RedisUsageStore:
    return make_usage_store()
