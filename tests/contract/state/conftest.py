"""The state store under test. A backend is a factory of stores that all see the same sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from helix_fast.redis.state import RedisStateStore

StateStores = Callable[..., Any]


@pytest.fixture
async def state_stores(server_url: str) -> AsyncIterator[StateStores]:
    """Makes stores on one backend, each as another process would; all are closed at the end."""
    made: list[RedisStateStore] = []

    def make(**options: Any) -> RedisStateStore:
        made.append(RedisStateStore(server_url, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def state_store(state_stores: StateStores) -> Any:
    """One store."""
    return state_stores()


@pytest.fixture
def make_state_store(server_url: str) -> Callable[[], Any]:
    """As `state_stores`, for tests that run an event loop of their own, and close what they make."""
    return lambda: RedisStateStore(server_url)
