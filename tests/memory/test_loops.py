"""Stores in memory and event loops: a store of a module is used by one loop after another."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from helix_fast import Helix, connect
from helix_fast.memory import (
    InMemoryLockManager,
    InMemoryResumableStorage,
    InMemoryStateStore,
    InMemoryStreamManager,
    InMemoryUsageStore,
    MemoryServer,
)
from tests.support.memory import CHUNK, ENTRY

SUITE = """
import pytest
from helix_fast import InMemoryStateStore, InMemoryStreamManager

state, streams = InMemoryStateStore(), InMemoryStreamManager(lease_ms=30_000)
writers = []

@pytest.mark.parametrize("number", [1, 2, 3])
async def test_each_has_a_loop_of_its_own(number):
    if number == 1:
        await state.create_session("s", agent_type="a")
    assert await state.append_messages("s", [{"role": "user"}]) == number
    writer = await streams.create_writer("s", "a")
    writers.append(writer)  # and it is never closed: the loop ends first
    assert await writer.write({"type": "text_delta", "delta": "x"}) == number
    reader = await streams.create_reader("s")
    assert [(await reader.__anext__()).delta for _ in range(number)] == ["x"] * number
"""


SETTINGS = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function", "-W", "error")


@pytest.mark.slow
def test_a_store_of_a_module_works_in_every_test_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *SETTINGS, "-q", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_stores_outlive_their_event_loop_with_everything_left_open() -> None:
    server = MemoryServer()
    state, usage, locks = InMemoryStateStore(server), InMemoryUsageStore(server), InMemoryLockManager(server)
    streams = InMemoryStreamManager(server, lease_ms=30_000)
    storage = InMemoryResumableStorage(server)

    async def first() -> None:
        await state.create_session("s", agent_type="a")
        recorder = usage.recorder("s")
        recorder.add(dict(ENTRY))
        await recorder.flush()
        assert await locks.acquire("s", ttl_ms=60_000) is not None
        left = [asyncio.create_task(locks.acquire("s", wait_ms=60_000))]
        writer = await streams.create_writer("s", "a")
        await writer.write(CHUNK)
        writer.send(CHUNK)
        reader = await streams.create_resumable_reader("s", from_sequence=1)
        assert reader is not None
        left.append(asyncio.create_task(reader.__anext__()))  # type: ignore[arg-type]
        storage.subscribe("s", lambda _chunk, _sequence: None, from_sequence=0)
        await asyncio.sleep(0.01)
        assert not left[0].done()

    async def second() -> None:
        assert await state.exists("s")
        assert await usage.get_rollup("s") is not None
        assert await locks.acquire("s") is None
        assert await locks.acquire("another") is not None
        writer = await streams.create_writer("s", "a")
        stored = await writer.write(CHUNK)
        reader = await streams.create_resumable_reader("s")
        assert reader is not None
        assert [(await reader.__anext__()).sequence for _ in range(stored)] == list(range(1, stored + 1))
        following = asyncio.create_task(reader.__anext__())
        assert await writer.write(CHUNK) == stored + 1
        assert (await asyncio.wait_for(following, 10)).sequence == stored + 1
        await streams.request_stop("s")
        await asyncio.wait_for(writer.stop_requested.wait(), 10)
        await writer.close()
        await streams.end_stream("s")

    async def third() -> None:
        for store in (state, usage, locks, streams, storage):
            await store.close()

    for part in (first, second, third):
        asyncio.run(part())
    assert server.execute("PUBSUB", "CHANNELS") == []


def test_what_connect_opened_in_one_run_works_in_the_next() -> None:
    async def opened() -> Helix:
        helix = await connect("memory://")
        await helix.state.create_session("s", agent_type="a")
        return helix

    async def used(helix: Helix) -> None:
        assert await helix.state.exists("s")
        async with helix.locks.hold("s"):
            await helix.state.update_status("s", "running")
        await helix.close()

    helix = asyncio.run(opened())
    asyncio.run(used(helix))


def test_a_subscription_may_be_the_first_thing_on_another_event_loop() -> None:
    storage = InMemoryResumableStorage()

    async def first() -> None:
        await storage.create("s")
        await storage.append("s", dict(CHUNK), 1)

    async def second() -> None:
        sequences: asyncio.Queue[int] = asyncio.Queue()
        storage.subscribe("s", lambda _chunk, sequence: sequences.put_nowait(sequence))
        await storage.append("s", dict(CHUNK), 2)
        assert await asyncio.wait_for(sequences.get(), 20) == 2
        await storage.close()

    asyncio.run(first())
    asyncio.run(second())
