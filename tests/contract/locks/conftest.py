"""Lock managers of every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from helix_fast.memory.locks import InMemoryLockManager
from helix_fast.redis.locks import RedisLockManager
from tests.support.locks import MakeManager, Manager


@pytest.fixture(params=["redis", "memory"])
def lock_url(request: pytest.FixtureRequest) -> str | None:
    """The server's URL; None in memory."""
    return cast("str", request.getfixturevalue("server_url")) if request.param == "redis" else None


@pytest.fixture
async def make_lock_manager(lock_url: str | None) -> AsyncIterator[MakeManager]:
    """Makes managers that lock the same sessions; in memory that is one and the same."""
    made: list[Manager] = []

    def make(**options: Any) -> Manager:
        if lock_url is None:
            manager: Manager = made[0] if made and not options else InMemoryLockManager(**options)
        else:
            manager = RedisLockManager(lock_url, **options)
        made.append(manager)
        return manager

    yield make
    for manager in made:
        await manager.close()


@pytest.fixture
def lock_manager(make_lock_manager: MakeManager) -> Manager:
    return make_lock_manager()
