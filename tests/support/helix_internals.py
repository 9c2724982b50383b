"""Test support: what the contract may know of our own stores. It reads their private attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

import helix_fast
from helix_fast import RedisLockManager
from helix_fast.lua import script
from helix_fast.testing.contract.fixtures import RequestsOf, StopRenewing, WaitersOf
from helix_fast.testing.contract.lock_helpers import comes_true

__all__ = ["load_scripts", "requests_of", "stop_renewing", "waiters_of"]


async def load_scripts(url: str) -> None:
    """Have a server know every script, so that a call by digest runs it."""
    async with Redis.from_url(url) as client, client.pipeline(transaction=False) as pipeline:
        package = Path(helix_fast.__file__).parent
        for path in package.rglob("lua/*.lua"):
            product = path.parents[1].relative_to(package).as_posix()
            body = script("" if product == "." else product, path.stem).body
            if not body.startswith(b"-- Included"):
                pipeline.script_load(body.decode())
        await pipeline.execute()


async def lock_waiters(manager: Any, session_id: str) -> int:
    """Length of the lock's queue."""
    return int(await manager._requests.command(session_id, "ZCARD", f"{manager.key_prefix}lock:{{{session_id}}}:queue"))


async def waiting(manager: RedisLockManager, count: int, session: str = "s") -> None:
    """Wait until `count` callers are in the queue."""

    async def queued() -> bool:
        return await lock_waiters(manager, session) == count

    await comes_true(queued)


@pytest.fixture
def requests_of() -> RequestsOf:
    """Requests on the store's connections."""

    def requests(store: Any) -> int:
        return int(store._requests.topology.requests)

    return requests


@pytest.fixture
def waiters_of() -> WaitersOf:
    """The length of the queue."""
    return lock_waiters


@pytest.fixture
def stop_renewing() -> StopRenewing:
    """Ends the task that renews leases."""

    async def stop(manager: Any) -> None:
        await manager._leases.close()

    return stop
