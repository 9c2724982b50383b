"""The renewal of a lock, as its tasks show it."""

from __future__ import annotations

import asyncio
from typing import Any

from helix_fast.testing.waiting import steady


async def test_renewal_ends_with_the_block(lock_manager: Any) -> None:
    assert not await lock_manager.is_locked("s")  # what watches a connection runs from here on
    before = asyncio.all_tasks()

    async def renewed(scale: int) -> None:
        watched = asyncio.all_tasks()  # with the task that watches for stalls
        async with lock_manager.hold("s", ttl_ms=300 * scale):
            assert len(asyncio.all_tasks() - watched) <= 1, "more than one background task"
            await asyncio.sleep(0.34 * scale)  # longer than the TTL
            assert [task.get_name() for task in asyncio.all_tasks() - watched] == ["renew lock s"]
        assert asyncio.all_tasks() == watched

    await steady(renewed)
    assert asyncio.all_tasks() == before
    assert not lock_manager._holds._renewing
