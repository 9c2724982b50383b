"""What the tests of locks share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from helix_fast.holding import LockHolding
from helix_fast.locking import Lock
from helix_fast.memory.locks import InMemoryLockManager
from helix_fast.redis.locks import RedisLockManager

Manager = RedisLockManager | InMemoryLockManager
MakeManager = Callable[..., Manager]


async def taken(manager: LockHolding, session: str = "s", **options: Any) -> Lock:
    """A lock that is to be had."""
    lock = await manager.acquire(session, **options)
    assert lock is not None
    return lock


async def happens(event: asyncio.Event, seconds: float = 5.0) -> None:
    await asyncio.wait_for(event.wait(), seconds)


async def comes_true(condition: Callable[[], Awaitable[object]], seconds: float = 5.0) -> None:
    """Until `condition` answers something true."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:g} s"
        await asyncio.sleep(0.002)


async def freed(manager: Manager, session: str = "s", seconds: float = 5.0) -> None:
    """Until nobody holds the lock."""

    async def free() -> bool:
        return not await manager.is_locked(session)

    await comes_true(free, seconds)


async def waiting(manager: Manager, count: int, session: str = "s") -> None:
    """Until `count` callers stand in the queue."""

    async def stand() -> bool:
        if isinstance(manager, InMemoryLockManager):
            return len(manager._waiting.get(session, ())) == count
        found = await manager.command(session, "ZCARD", f"{manager.key_prefix}lock:{{{session}}}:queue")
        return bool(found == count)

    await comes_true(stand)
