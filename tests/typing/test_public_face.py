"""The public face of the stores: the methods of the reference, the options, and nothing of the inside."""

from __future__ import annotations

from typing import Any

import pytest

from helix_fast import NoOpLockManager, connect, interfaces

COMMON = {"close", "on", "key_prefix"}
PROTOCOLS: dict[str, Any] = {
    "state": interfaces.StateStore,
    "streams": interfaces.StreamManager,
    "resumable": interfaces.ResumableStorage,
    "usage": interfaces.UsageStore,
    "locks": interfaces.LockManager,
}
OPTIONS = {
    "state": {"ttl", "max_checkpoints"},
    "streams": {"ttl", "max_stream_length"},
    "usage": {"recorder"},
    "locks": {"default_ttl_ms"},
}


def public(value: object) -> set[str]:
    return {name for name in dir(value) if not name.startswith("_")}


@pytest.mark.parametrize("name", PROTOCOLS)
async def test_a_store_shows_its_protocol_and_its_options(name: str) -> None:
    async with connect("memory://") as helix:
        assert public(getattr(helix, name)) == public(PROTOCOLS[name]) | COMMON | OPTIONS.get(name, set())


def test_a_lock_manager_that_locks_nothing_shows_the_same() -> None:
    assert public(NoOpLockManager()) == public(interfaces.LockManager) | {"default_ttl_ms"}


async def test_the_stores_of_a_helix_share_one_stream_manager() -> None:
    async with connect("memory://") as helix:
        async with await helix.streams.create_writer("s", "a") as writer:
            assert await writer.write({"type": "n"}) == 1
            await helix.resumable.append("s", {"type": "n"}, 2)
            await helix.resumable.end("s")
            assert [one.sequence for one in await helix.resumable.read_from("s")] == [1, 2]
        assert helix.resumable._manager is helix.streams
