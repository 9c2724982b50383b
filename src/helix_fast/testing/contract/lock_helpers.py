"""Helpers of the contract's tests of locks: taking one, letting it expire, waiting."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from helix_fast.errors import HelixError
from helix_fast.interfaces import LockManager
from helix_fast.locks.lock import Lock

SHORT = 100
"""A TTL in milliseconds that runs out within the test; see `shorten`."""
LONG = 60_000
"""A TTL in milliseconds that no test outlasts."""


async def taken(manager: LockManager, session: str = "s", **options: Any) -> Lock:
    """Acquire a free lock."""
    lock = await manager.acquire(session, **options)
    assert lock is not None
    return lock


async def shorten(lock: Lock) -> None:
    """Let the lock expire soon. A lock acquired with a short TTL would be refused where the reply is late."""
    with contextlib.suppress(HelixError):
        await lock.refresh(SHORT)


async def expiring(manager: LockManager, session: str = "s", **options: Any) -> Lock:
    """Acquire a free lock that expires soon, or has expired already."""
    lock = await taken(manager, session, ttl_ms=LONG, **options)
    await shorten(lock)
    return lock


async def happens(event: asyncio.Event, seconds: float = 30.0) -> None:
    """Wait until the event is set; TimeoutError after `seconds`."""
    await asyncio.wait_for(event.wait(), seconds)


async def comes_true(condition: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    """Wait until `condition` answers something true."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:g} s"
        await asyncio.sleep(0.002)


async def freed(manager: LockManager, session: str = "s", seconds: float = 30.0) -> None:
    """Wait until the lock is free."""

    async def free() -> bool:
        return not await manager.is_locked(session)

    await comes_true(free, seconds)
