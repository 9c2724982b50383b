"""What the tests of locks share; mostly the contract suite's own."""

from __future__ import annotations

from helix_fast.locks.manager import RedisLockManager
from helix_fast.testing.contract.held import comes_true, freed, happens, taken
from helix_fast.testing.contract.own import lock_waiters

__all__ = ["comes_true", "freed", "happens", "taken", "waiting"]


async def waiting(manager: RedisLockManager, count: int, session: str = "s") -> None:
    """Until `count` callers stand in the queue."""

    async def stand() -> bool:
        return await lock_waiters(manager, session) == count

    await comes_true(stand)
