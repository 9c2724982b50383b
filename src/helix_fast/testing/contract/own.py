"""What the stores of helix-fast tell of themselves to the contract, on a server and in memory."""

from __future__ import annotations

from typing import Any

import pytest

from .fixtures import RequestsOf, StopRenewing, WaitersOf

__all__ = ["requests_of", "stop_renewing", "waiters_of"]


async def lock_waiters(manager: Any, session_id: str) -> int:
    """How many callers wait for the lock of a session."""
    return int(await manager.command(session_id, "ZCARD", f"{manager.key_prefix}lock:{{{session_id}}}:queue"))


@pytest.fixture
def requests_of() -> RequestsOf:
    """Requests on the store's connections."""

    def requests(store: Any) -> int:
        return int(store._topology.requests)

    return requests


@pytest.fixture
def waiters_of() -> WaitersOf:
    """The length of the queue."""
    return lock_waiters


@pytest.fixture
def stop_renewing() -> StopRenewing:
    """Ends the task that renews leases."""

    async def stop(manager: Any) -> None:
        await manager._keeper.close()

    return stop
