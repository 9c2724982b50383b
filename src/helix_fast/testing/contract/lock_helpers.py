"""What the tests of locks wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from helix_fast.interfaces import LockManager
from helix_fast.locks.lock import Lock

SHORT = 300
"""A TTL in milliseconds that is waited for, and that a reply on a busy machine does not outlast."""


async def taken(manager: LockManager, session: str = "s", **options: Any) -> Lock:
    """A lock that is to be had."""
    lock = await manager.acquire(session, **options)
    assert lock is not None
    return lock


async def happens(event: asyncio.Event, seconds: float = 5.0) -> None:
    """Until the event is set; TimeoutError after `seconds`."""
    await asyncio.wait_for(event.wait(), seconds)


async def comes_true(condition: Callable[[], Awaitable[object]], seconds: float = 5.0) -> None:
    """Until `condition` answers something true."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:g} s"
        await asyncio.sleep(0.002)


async def freed(manager: LockManager, session: str = "s", seconds: float = 5.0) -> None:
    """Until nobody holds the lock."""

    async def free() -> bool:
        return not await manager.is_locked(session)

    await comes_true(free, seconds)
