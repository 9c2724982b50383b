"""What a session promises where the server's history forks: whole or absent, and versions that may go back."""

from __future__ import annotations

import pytest

from helix_fast import InMemoryStateStore
from helix_fast.errors import ConcurrentUpdateError
from helix_fast.memory import MemoryServer


async def test_versions_go_back_and_a_write_against_a_lost_one_is_refused() -> None:
    server = MemoryServer()
    async with InMemoryStateStore(server=server) as store:
        await store.create_session("s", agent_type="tester", initial_state={"n": 0})
        saved = server.snapshot()
        kept = await store.load_state("s")
        assert kept is not None
        for n in range(1, 4):
            await store.merge_custom_state("s", {"n": n})
        lost = await store.load_state("s")
        assert lost is not None
        assert lost.version > kept.version
        server.restore(saved, new_history=True)
        assert await store.load_state("s") == kept
        with pytest.raises(ConcurrentUpdateError):
            await store.save_state("s", lost, expected_version=lost.version)
        await store.merge_custom_state("s", {"n": "anew"})
        again = await store.load_state("s")
        assert again is not None
        assert (again.version, again.custom_state) == (kept.version + 1, {"n": "anew"})
