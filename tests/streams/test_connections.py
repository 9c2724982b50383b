"""How many connections, subscriptions and chunks streams hold, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import gc

import pytest

from helix_fast import StoreClosedError, connect
from helix_fast.codec.plain import reader as plain_reader
from helix_fast.keys import StreamKeys
from helix_fast.streams.read_ahead import MAX_PAGE
from helix_fast.testing.waiting import until
from tests.support.proxy import FaultProxy
from tests.support.streams_under_fault import StreamStore, delta, deltas, follow, storage, text

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]


async def clients(store: StreamStore) -> int:
    return len((await store._requests.command("", b"CLIENT", b"LIST")).splitlines())


async def channels(store: StreamStore) -> set[bytes]:
    return set(await store._requests.command("", b"PUBSUB", b"CHANNELS"))


async def comes_down(store: StreamStore, count: int) -> None:
    """Wait until the server has no more than so many connections."""
    for _ in range(1000):
        if await clients(store) <= count:
            return
        await asyncio.sleep(0.005)
    pytest.fail((await store._requests.command("", b"CLIENT", b"LIST")).decode())


async def test_500_readers_and_500_writers_share_two_connections(server_url: str) -> None:
    async with storage(server_url) as direct:
        await direct._requests.command("", b"PING")
        await comes_down(direct, 1)
        tasks = asyncio.all_tasks()
        async with connect(server_url) as helix:
            store = helix.streams
            writers = await asyncio.gather(*(store.create_writer(f"s{n}", "a", lease_ms=60_000) for n in range(500)))
            readers = [await follow(store, f"s{n}") for n in range(500)]
            for round_ in range(3):
                await asyncio.gather(*(writer.write(text(f"{n}:{round_}")) for n, writer in enumerate(writers)))
            await until(lambda: all(len(reader.chunks) == 3 for reader in readers))
            assert await clients(direct) == 1 + 2
            for n, reader in enumerate(readers):
                assert deltas(reader.chunks) == [f"{n}:{round_}" for round_ in range(3)]
            assert len(asyncio.all_tasks() - tasks) <= len(readers) + 2, "one task for the leases, and what it awaits"
            await asyncio.gather(*(writer.close() for writer in writers))
            await asyncio.gather(*(store.end_stream(f"s{n}") for n in range(500)))
            await asyncio.gather(*(reader.done() for reader in readers))
            await until(lambda: not (asyncio.all_tasks() - tasks) or len(asyncio.all_tasks() - tasks) <= 2)
        await comes_down(direct, 1)
        assert await channels(direct) == set()
        assert asyncio.all_tasks() <= tasks


async def test_closing_with_everything_open_leaves_nothing(server_url: str) -> None:
    async with storage(server_url) as direct:
        await direct._requests.command("", b"PING")
        await comes_down(direct, 1)
        tasks = asyncio.all_tasks()
        helix = await connect(server_url)
        store = helix.streams
        writer = await store.create_writer("s", "agent", lease_ms=1000)
        await writer.write(text("a"))
        reader = await store.create_resumable_reader("s")
        assert reader is not None
        stop = helix.resumable.subscribe("s", lambda _chunk, _sequence: None, from_sequence=0)
        await asyncio.sleep(0.05)
        await helix.close()
        await comes_down(direct, 1)
        assert await channels(direct) == set()
        await until(lambda: asyncio.all_tasks() <= tasks, what="the end of all tasks")
        del stop


async def test_forgotten_reader_is_unsubscribed(server_url: str) -> None:
    channel = StreamKeys("helix:", "s").channel
    async with storage(server_url) as store:
        writer = await store.create_writer("s", "agent")
        await writer.write(text("a"))
        reader = await store.create_resumable_reader("s")
        assert reader is not None
        assert (await reader.__anext__()).sequence == 1
        step = asyncio.ensure_future(reader.__anext__())  # it has waited, so a timer knows it
        await asyncio.sleep(0.02)
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        assert channel in await channels(store)
        del reader, step
        gc.collect()
        for _ in range(1000):
            if channel not in await channels(store):
                break
            await asyncio.sleep(0.002)
        assert (await store._requests.command("", b"PUBSUB", b"NUMSUB", channel))[1] == 0


@pytest.mark.parametrize("size", [10, 20_000])
async def test_slow_reader_holds_little_and_slows_nobody(server_url: str, size: int) -> None:
    """It is overrun by far more than it may hold; afterwards the log has all of it."""
    count = 3000 if size == 10 else 300
    async with storage(server_url) as writing, storage(server_url, block_timeout=60_000) as store:
        writer = await writing.create_writer("s", "agent")
        fast = await follow(store, "s")
        slow = await store.create_resumable_reader("s")
        assert slow is not None
        body = "x" * size
        await writer.write(text("first"))
        assert (await slow.__anext__()).sequence == 1
        task = asyncio.ensure_future(slow.__anext__())  # it is live now, and then reads no more
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for n in range(count):
            writer.send_text(f"{n}{body}")
            if n % 2:
                await writer.flush()
            pushes = slow._cursor.pushes
            assert len(pushes.pending) <= plain_reader.MAX_PENDING_ENTRIES + 1
            assert pushes.pending_bytes <= plain_reader.MAX_PENDING_BYTES + (1 << 17)
            assert sum(len(entry.body) for entry in pushes.pending) == pushes.pending_bytes
        await writer.flush()
        await until(lambda: len(fast.chunks) == count + 1)
        assert slow._cursor.last == 1
        for n in range(count):
            assert delta((await slow.__anext__()).chunk) == f"{n}{body}"
            assert len(slow._chunks) <= MAX_PAGE * 2
        await writing.end_stream("s")
        assert len(await fast.done()) == count + 1
        assert await slow.read_batch() == ()


async def test_closing_ends_a_reader_whose_channel_nobody_confirms(server_url: str, fault_proxy: FaultProxy) -> None:
    async with connect(fault_proxy.url, timeout=120) as helix:
        await helix.resumable.create("s")
        fault_proxy.refuse()  # the connection of the subscriptions is not there yet

        async def read() -> None:
            async for _ in helix.streams.read("s"):
                pass

        reading = asyncio.ensure_future(read())
        await until(lambda: helix.streams._requests.topology.hub("s").channels == 1)
        await helix.streams.close()
        with pytest.raises(StoreClosedError):
            await asyncio.wait_for(reading, 30)
