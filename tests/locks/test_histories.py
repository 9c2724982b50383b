"""What locks promise where the server's history forks: tokens that grow as far as clocks agree."""

from __future__ import annotations

import pytest

from helix_fast import InMemoryLockManager
from helix_fast.memory import MemoryServer


@pytest.mark.parametrize("seconds", [0.001, 60.0])
async def test_token_grows_over_a_fork_and_the_holder_of_before_finds_out(seconds: float) -> None:
    now = 1_700_000_000.0
    server = MemoryServer(lambda: now)
    async with InMemoryLockManager(server=server) as one, InMemoryLockManager(server=server) as other:
        saved = server.snapshot()
        held = await one.acquire("s", ttl_ms=60_000)
        assert held is not None
        now += seconds
        server.restore(saved, new_history=True)
        second = await other.acquire("s", ttl_ms=60_000)
        assert second is not None, "the lock was given on the branch that is lost"
        assert second.fencing_token > held.fencing_token
        assert not await held.refresh()
        assert held.lost
        assert await second.release()
