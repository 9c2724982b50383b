"""Usage stores of every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast.redis.usage import RedisUsageStore
from tests.support.backends import Backend
from tests.support.usage import MakeUsageStore


@pytest.fixture
async def make_usage_store(backend: Backend) -> AsyncIterator[MakeUsageStore]:
    """Makes stores of the same usage. Each has connections and sums of its own, as in a process of its own."""
    made: list[RedisUsageStore] = []

    def make(**options: Any) -> RedisUsageStore:
        made.append(backend.make("usage", **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def usage_store(make_usage_store: MakeUsageStore) -> RedisUsageStore:
    return make_usage_store()
