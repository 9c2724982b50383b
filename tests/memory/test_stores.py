"""What only stores in memory have: a server that they share, and no connection to name."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from queue import Queue
from typing import Any

import pytest

from helix_fast import (
    HelixError,
    InvalidArgumentError,
    StoreClosedError,
    StoreResponseError,
)
from helix_fast.memory import (
    InMemoryLockManager,
    InMemoryResumableStorage,
    InMemoryStateStore,
    InMemoryStreamManager,
    InMemoryUsageStore,
    MemoryServer,
)
from tests.support.memory import CHUNK, ENTRY

PUSHES = b"helix:stream:{s}:push"
CLASSES = (InMemoryStateStore, InMemoryStreamManager, InMemoryResumableStorage, InMemoryUsageStore, InMemoryLockManager)


async def subscribed(server: MemoryServer, channel: bytes, *, again: bool = True) -> None:
    """Until a channel has a subscriber, or has none any more."""
    for _ in range(1_000):
        if (channel in server.execute("PUBSUB", "CHANNELS")) is again:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{channel!r} has a subscriber: {not again}")


# one server, many stores


async def test_stores_of_one_server_share_their_data() -> None:
    server = MemoryServer()
    async with InMemoryStreamManager(server) as streams, InMemoryResumableStorage(server) as storage:
        writer = await streams.create_writer("s", "a")
        await writer.write(CHUNK)
        await storage.append("s", CHUNK, 2)
        assert await writer.write(CHUNK) == 3
        assert [stored.sequence for stored in await storage.read_from("s")] == [1, 2, 3]


@pytest.mark.parametrize("kind", CLASSES)
async def test_stores_without_a_server_have_one_of_their_own(kind: Any) -> None:
    async with kind() as one, kind() as two:
        assert one.server is not two.server
        one.server.execute("SET", "k", "v")
        assert two.server.execute("DBSIZE") == 0


async def test_a_key_prefix_keeps_stores_of_one_server_apart() -> None:
    server = MemoryServer()
    async with InMemoryStateStore(server, key_prefix="a:") as one, InMemoryStateStore(server, key_prefix="b:") as two:
        await one.create_session("s", agent_type="a")
        assert not await two.exists("s")
        await two.create_session("s", agent_type="a")


async def test_the_data_outlives_the_store() -> None:
    server = MemoryServer()
    async with InMemoryStateStore(server) as state:
        await state.create_session("s", agent_type="a")
    async with InMemoryStateStore(server) as state:
        assert await state.exists("s")


async def test_lock_managers_of_one_server_lock_the_same_sessions_by_prefix() -> None:
    server = MemoryServer()
    one, two = (InMemoryLockManager(server, key_prefix="p:") for _ in range(2))
    other, alone = InMemoryLockManager(server, key_prefix="q:"), InMemoryLockManager(key_prefix="p:")
    first = await one.acquire("s")
    assert first is not None
    assert await two.acquire("s") is None
    assert await other.acquire("s") is not None
    assert await alone.acquire("s") is not None
    waiting = asyncio.create_task(two.acquire("s", wait_ms=5_000))
    await asyncio.sleep(0)
    await first.release()
    second = await waiting
    assert second is not None
    assert second.fencing_token > first.fencing_token
    for manager in (one, two, other, alone):
        await manager.close()


async def test_tokens_of_managers_of_one_server_never_repeat() -> None:
    server = MemoryServer()
    managers = [InMemoryLockManager(server) for _ in range(4)]
    tokens: list[int] = []
    for _ in range(50):
        for manager in managers:
            lock = await manager.acquire("s")
            assert lock is not None
            tokens.append(lock.fencing_token)
            await lock.release()
    assert tokens == sorted(set(tokens))
    for manager in managers:
        await manager.close()


def test_threads_with_loops_of_their_own_may_share_a_server() -> None:
    server = MemoryServer()
    read: Queue[int] = Queue()

    async def follow() -> None:
        async with InMemoryStreamManager(server, block_timeout=60_000) as streams:
            reader = await streams.create_resumable_reader("s")
            assert reader is not None
            async for stored in reader:
                read.put(stored.sequence)

    async def write() -> list[int]:
        async with InMemoryStreamManager(server) as streams:
            writer = await streams.create_writer("s", "a")
            # A loop in debug mode refuses what another thread does to it in the wrong way.
            thread = threading.Thread(target=lambda: asyncio.run(follow(), debug=True), daemon=True)
            thread.start()
            seen: list[int] = []
            for _ in range(50):
                await writer.write(CHUNK)
                # Each arrives before the next is written: pushed, not read. The loop goes on meanwhile: the reader must
                # announce itself to a writer whose stream had no subscriber so far.
                seen.append(await asyncio.to_thread(read.get, timeout=10))
            await writer.close()
            await streams.end_stream("s")
            thread.join(10)
            return seen

    assert asyncio.run(write()) == list(range(1, 51))


async def test_a_store_used_from_a_second_loop_says_so() -> None:
    async with InMemoryStateStore() as state:
        await state.exists("s")
        failure: list[BaseException] = []

        def other_loop() -> None:
            try:
                asyncio.run(state.exists("s"))
            except HelixError as error:
                failure.append(error)

        thread = threading.Thread(target=other_loop)
        thread.start()
        thread.join(5)
        assert isinstance(failure[0], InvalidArgumentError)


# several stores on one topology, and arguments


async def test_stores_may_share_connections_which_their_maker_closes() -> None:
    server = MemoryServer()
    topology = server.topology()
    stores = [kind(server, topology=topology) for kind in (InMemoryStateStore, InMemoryUsageStore)]
    state, usage = stores
    await state.create_session("s", agent_type="a")
    await usage.record_entry(dict(ENTRY))
    assert topology.lane.generation == 1
    await usage.close()
    assert await state.exists("s")
    await state.close()
    await topology.close()
    with pytest.raises(StoreClosedError):
        await state.exists("s")


async def test_a_fencing_token_of_the_locks_fences_the_state() -> None:
    server = MemoryServer()
    async with InMemoryStateStore(server) as state, InMemoryLockManager(server) as locks:
        await state.create_session("s", agent_type="a")
        async with locks.hold("s") as lock:
            await state.update_status("s", "running", fencing_token=lock.fencing_token)
            with pytest.raises(HelixError) as caught:
                await state.update_status("s", "paused", fencing_token=lock.fencing_token - 1)
            assert caught.value.code == "stale_fencing_token"


@pytest.mark.parametrize("kind", CLASSES)
async def test_a_closed_store_refuses_and_closes_again(kind: Any) -> None:
    store = kind()
    await store.close()
    await store.close()
    with pytest.raises(StoreClosedError):
        await store._requests.command("s", "PING")


@pytest.mark.parametrize("kind", CLASSES)
def test_a_server_and_a_clock_are_not_given_together(kind: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="clock"):
        kind(MemoryServer(), clock=time.time)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("prefix", ["{", "a\n", 5])
def test_a_prefix_that_can_be_none_is_refused(kind: Any, prefix: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        kind(key_prefix=prefix)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("option", ["host", "port", "redis", "client", "password", "wait_replicas"])
def test_options_of_a_connection_are_refused(kind: Any, option: str) -> None:
    with pytest.raises(InvalidArgumentError, match=option):
        kind(**{option: 1})


@pytest.mark.parametrize("kind", CLASSES)
def test_a_server_that_is_none_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="MemoryServer"):
        kind("redis://localhost")


# the connection to the server


async def test_what_the_server_refuses_is_a_typed_error() -> None:
    async with InMemoryStateStore() as state:
        state.server.execute("SET", "helix:session:{s}", "no hash")
        with pytest.raises(HelixError) as caught:
            await state.load("s")
        assert caught.value.code in {"malformed_state", "store_response"}


async def test_a_bug_of_the_server_is_an_error_and_no_hang(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with InMemoryStateStore() as state:

        def fail(*_args: object) -> object:
            raise RuntimeError("a bug")

        monkeypatch.setattr(state.server._scripts, "run", fail)
        with pytest.raises(StoreResponseError, match="a bug"):
            await asyncio.wait_for(state.load("s"), 5)
    assert "a bug" in caplog.text


async def test_closing_leaves_nothing_behind() -> None:
    server = MemoryServer()
    before = len(asyncio.all_tasks())
    async with InMemoryResumableStorage(server) as storage, InMemoryStreamManager(server) as streams:
        await storage.create("s")
        storage.subscribe("s", lambda _chunk, _sequence: None, from_sequence=0)
        reader = await streams.create_resumable_reader("s")
        assert reader is not None
        waiting = asyncio.create_task(reader.__anext__())
        await subscribed(server, PUSHES)
        await storage.close()
        await streams.close()
        with pytest.raises((HelixError, StopAsyncIteration)):
            await waiting
    assert server.execute("PUBSUB", "CHANNELS") == []
    assert len(asyncio.all_tasks()) == before


async def test_a_forgotten_reader_is_unsubscribed() -> None:
    async with InMemoryStreamManager() as streams:
        async with await streams.create_writer("s", "a") as writer:
            await writer.write(CHUNK)
        reader = await streams.create_reader("s")
        assert reader is not None
        await reader.__anext__()
        waiting = asyncio.create_task(reader.__anext__())
        await subscribed(streams.server, PUSHES)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        del reader, waiting
        gc.collect()
        await subscribed(streams.server, PUSHES, again=False)


async def test_a_cancelled_call_leaves_the_next_its_own_reply() -> None:
    async with InMemoryStateStore() as state:
        await state.create_session("s", agent_type="a")
        for steps in range(4):
            task = asyncio.create_task(state.increment_step_count("s"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await state.get_message_count("s") == 0
            loaded = await state.load("s")
            assert loaded is not None
            assert loaded.step_count <= steps
