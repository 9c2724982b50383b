"""The state store under test. A backend is a factory of stores that all see the same sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from helix_fast.redis.state import RedisStateStore
from tests.support.backends import Backend

StateStores = Callable[..., Any]


@pytest.fixture
def new_state_store(backend: Backend) -> StateStores:
    """Makes stores of one backend that nobody closes."""
    return partial(backend.make, "state")


@pytest.fixture
async def state_stores(new_state_store: StateStores) -> AsyncIterator[StateStores]:
    """Makes stores on one backend, each as another process would; all are closed at the end."""
    made: list[RedisStateStore] = []

    def make(**options: Any) -> RedisStateStore:
        made.append(new_state_store(**options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def state_store(state_stores: StateStores) -> Any:
    """One store."""
    return state_stores()


@pytest.fixture
def make_state_store(new_state_store: StateStores) -> Callable[[], Any]:
    """As `state_stores`, for tests that run an event loop of their own, and close what they make."""
    return new_state_store
