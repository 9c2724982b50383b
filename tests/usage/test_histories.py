"""What usage promises where the server's history forks: entries vanish whole, and may be recorded again."""

from __future__ import annotations

from helix_fast import InMemoryUsageStore
from helix_fast.memory import MemoryServer
from helix_fast.testing.contract.usage_helpers import tokens


async def test_entries_that_vanished_are_counted_once_when_they_are_recorded_again() -> None:
    server = MemoryServer()
    async with InMemoryUsageStore(server=server) as store:
        entries = [tokens("s", id=f"call-{n}") for n in range(4)]
        assert await store.record_entries(entries[:2]) == 2
        rollup = await store.get_rollup("s")
        assert rollup is not None
        before = rollup.tokens.total
        saved = server.snapshot()
        assert await store.record_entries(entries[2:]) == 2
        rollup = await store.get_rollup("s")
        assert rollup is not None
        whole = rollup.tokens.total
        server.restore(saved, new_history=True)
        rollup = await store.get_rollup("s")
        assert rollup is not None
        assert (rollup.tokens.total, rollup.entry_count) == (before, 2)
        assert await store.record_entries(entries) == 2, "only those that are not there"
        rollup = await store.get_rollup("s")
        assert rollup is not None
        assert (rollup.tokens.total, rollup.entry_count) == (whole, 4)
