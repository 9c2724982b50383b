"""The renewal of a lock, as its tasks show it."""

from __future__ import annotations

import asyncio
from typing import Any


async def test_renewal_ends_with_the_block(lock_manager: Any) -> None:
    assert not await lock_manager.is_locked("s")  # what watches a connection runs from here on
    before = asyncio.all_tasks()
    async with lock_manager.hold("s", ttl_ms=1_500):
        assert len(asyncio.all_tasks() - before) <= 1, "more than one background task"
        await asyncio.sleep(1.7)  # longer than the TTL, which leaves a busy machine its time
        assert [task.get_name() for task in asyncio.all_tasks() - before] == ["renew lock s"]
    assert asyncio.all_tasks() == before
    assert not lock_manager._holds
