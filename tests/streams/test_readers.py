"""Readers over a way that breaks: no gap, no repeat, and never a reader that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helix_fast import connect
from helix_fast.errors import ProducerLostError, StreamClosedError, StreamDeletedError, StreamFailedError
from helix_fast.keys import StreamKeys
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import steady, until
from tests.support.proxy import FaultProxy
from tests.support.streams_under_fault import Following, StreamStore, follow, logged, storage, text

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]
KEYS = StreamKeys("helix:", "s")


async def kill_subscriptions(store: StreamStore) -> int:
    return int(await store._requests.command("", b"CLIENT", b"KILL", b"TYPE", b"pubsub"))


async def subscribed(store: StreamStore, count: int = 1) -> None:
    """Wait until so many connections hear the stream's channel."""
    deadline = time.monotonic() + 10
    while (await store._requests.command("", b"PUBSUB", b"NUMSUB", KEYS.channel))[1] != count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class TestBrokenWays:
    @pytest.mark.parametrize("fault", ["cut", "stall", "drop", "kill"])
    async def test_reader_misses_and_repeats_nothing(
        self, server_url: str, fault_proxy: FaultProxy, fault: str
    ) -> None:
        dice = random.Random(fault)
        async with (
            storage(server_url) as direct,
            storage(fault_proxy.url, timeout=0.4, block_timeout=200) as store,
        ):
            writer = await direct.create_writer("s", "agent")
            readers = [await follow(store, "s") for _ in range(3)]
            for n in range(150):
                writer.send_text(str(n))
                if n % 10 == 5:
                    await writer.flush()
                    if fault == "cut":
                        fault_proxy.cut_after_reply_bytes(dice.randrange(2000))
                    elif fault == "stall" and n % 50 == 5:
                        fault_proxy.stall()
                    elif fault == "drop" and n % 50 == 5:
                        fault_proxy.drop_replies()
                    elif fault == "kill":
                        await kill_subscriptions(direct)
                    await asyncio.sleep(0.02)
                    fault_proxy.resume()
                    if n % 50 == 15:
                        if fault == "drop":  # bytes missing from the middle are nothing that TCP does
                            fault_proxy.cut_all()
                        fault_proxy.heal()
            fault_proxy.heal()
            await writer.close()
            await direct.end_stream("s")
            for reader in readers:
                assert await reader.done() == [str(n) for n in range(150)], reader.error

    async def test_silence_longer_than_the_timeout_is_noticed_by_hub_and_lane(
        self, server_url: str, fault_proxy: FaultProxy
    ) -> None:
        """A way that is dead without a word: no FIN ever comes, a ping goes unanswered."""
        async with storage(server_url) as direct, storage(fault_proxy.url, timeout=0.3, block_timeout=60_000) as store:
            writer = await direct.create_writer("s", "agent")
            reader = await follow(store, "s")
            await subscribed(direct)
            cursor = reader.reader._cursor
            await until(lambda: cursor.waiting and not cursor.pushes.stale, what="a reader that only listens")
            fault_proxy.drop_replies()
            await writer.write(text("unheard"))
            await asyncio.sleep(0.1)
            accepted = fault_proxy.accepted
            await until(lambda: fault_proxy.accepted > accepted, what="a new connection")
            fault_proxy.heal()
            await until(lambda: len(reader.chunks) == 1, what="the unheard chunk")
            await reader.stop()

    async def test_subscription_killed_again_and_again_under_load(self, server_url: str) -> None:
        async with storage(server_url) as direct, storage(server_url, block_timeout=60_000) as store:
            writer = await direct.create_writer("s", "agent")
            readers = [await follow(store, "s") for _ in range(5)]
            killed = 0
            for n in range(300):
                writer.send_text(str(n))
                if n % 5 == 0:
                    await writer.flush()
                if n % 20 == 0:
                    killed += await kill_subscriptions(direct)
            await writer.close()
            await direct.end_stream("s")
            assert killed > 5
            for reader in readers:
                assert await reader.done() == [str(n) for n in range(300)]

    async def test_hub_connection_killed_for_its_output_buffer_is_made_again(self, short_path: Path) -> None:
        """What a slow process does not take from its socket makes the server drop it; the log has the rest."""
        server = ServerProcess(short_path, options={"client-output-buffer-limit": "pubsub 32kb 0 0"})
        await server.start()
        try:
            async with (
                FaultProxy(server.url, socket_path=short_path / "proxy.sock") as proxy,
                storage(server.url) as direct,
                storage(proxy.url, block_timeout=60_000, timeout=30) as store,
            ):
                writer = await direct.create_writer("s", "agent")
                reader = await follow(store, "s")
                await subscribed(direct)
                proxy.stall()
                body = "x" * 5_000  # of larger ones a server may queue references, which it does not count
                for _ in range(400):
                    await writer.write(text(body))
                assert (await direct._requests.command("", b"PUBSUB", b"NUMSUB", KEYS.channel))[1] == 0, (
                    "it was not killed"
                )
                proxy.resume()
                await until(lambda: len(reader.chunks) == 400, what="the chunks of the log")
                await direct.end_stream("s")
                assert await reader.done() == [body] * 400
        finally:
            await server.stop()


class TestNothingHangs:
    async def test_end_whose_push_is_lost(self, server_url: str) -> None:
        async with storage(server_url) as direct, storage(server_url, block_timeout=300) as store:
            writer = await direct.create_writer("s", "agent")
            await writer.write(text("a"))
            reader = await follow(store, "s")
            await subscribed(direct)
            # nothing is said to anyone, as where the push was lost on its way
            await direct._requests.command(
                "s", b"XADD", KEYS.stream, b"18446744073709551615-1", b"sequence", b"1", b"event", b"ended"
            )
            started = time.monotonic()
            assert await reader.done() == ["a"]
            assert time.monotonic() - started < 2

    async def test_end_while_the_subscription_is_killed(self, server_url: str) -> None:
        async with storage(server_url) as direct, storage(server_url, block_timeout=60_000) as store:
            writer = await direct.create_writer("s", "agent")
            reader = await follow(store, "s")
            await subscribed(direct)
            await writer.write(text("a"))
            await asyncio.gather(kill_subscriptions(direct), direct.end_stream("s"))
            assert await reader.done(5) == ["a"]

    @pytest.mark.parametrize("how", ["DEL", "UNLINK", "EXPIRE", "delete_stream", "FLUSHALL"])
    async def test_stream_gone_under_a_reader(self, server_url: str, how: str) -> None:
        async with storage(server_url) as direct, storage(server_url, block_timeout=150) as store:
            writer = await direct.create_writer("s", "agent")
            await writer.write(text("a"))
            reader = await follow(store, "s")
            await subscribed(direct)
            if how == "delete_stream":
                assert await direct.delete_stream("s")
            elif how == "EXPIRE":
                await direct._requests.command("s", b"PEXPIRE", KEYS.stream, 50)
            else:
                await direct._requests.command("s", how.encode(), *([] if how == "FLUSHALL" else [KEYS.stream]))
            assert await reader.done(5) == ["a"]
            assert isinstance(reader.error, StreamDeletedError)
            with pytest.raises(StreamDeletedError):
                await writer.write(text("does not bring it back"))
            assert await direct.get_info("s") is None

    async def test_server_restarted_empty(self, fresh_server: ServerProcess) -> None:
        async with storage(fresh_server.url, block_timeout=60_000) as store:
            writer = await store.create_writer("s", "agent")
            await writer.write(text("a"))
            reader = await follow(store, "s")
            await subscribed(store)
            fresh_server.kill()
            await fresh_server.start()
            assert await reader.done(10) == ["a"]
            assert isinstance(reader.error, StreamDeletedError)
            with pytest.raises(StreamDeletedError):
                await writer.write(text("b"))

    async def test_cancelled_look_into_the_log_is_made_up_for(self, server_url: str, fault_proxy: FaultProxy) -> None:
        """A step given up by its caller forgets neither what it had read nor that it had something to read."""
        async with storage(server_url) as direct, storage(fault_proxy.url, block_timeout=60_000) as store:
            await direct.create_writer("s", "agent")
            reader = await store.create_resumable_reader("s")
            assert reader is not None
            step = asyncio.ensure_future(reader.__anext__())
            await subscribed(direct)
            await until(lambda: reader._cursor.waiting and not reader._cursor.pushes.stale)
            fault_proxy.stall()
            body = b'{"type":"text_delta","delta":"a"}'
            await direct._requests.command(
                "s", b"XADD", KEYS.stream, b"*", b"chunk", body, b"sequence", b"1"
            )  # no push tells of it
            reader._cursor.pushes.resync()
            await asyncio.sleep(0.02)
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
            fault_proxy.resume()
            assert (await asyncio.wait_for(reader.__anext__(), 5)).sequence == 1


@contextlib.contextmanager
def producer(url: str, lease_ms: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to the stream `s` under a lease; its first chunk is stored."""
    command = [sys.executable, "-m", "tests.support.stream_worker", url, "s", str(lease_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


async def emptied(url: str) -> None:
    async with storage(url) as store:
        await store._requests.command("s", b"FLUSHALL")


class TestLostProducers:
    async def test_readers_learn_of_a_killed_producer_and_the_stream_fails_once(self, server_url: str) -> None:
        async def killed(scale: int) -> None:
            await emptied(server_url)
            lease, silence = 600 * scale, 300
            with producer(server_url, lease) as process:
                stores = [storage(server_url, block_timeout=silence) for _ in range(5)]
                async with contextlib.AsyncExitStack() as stack:
                    opened = [await stack.enter_async_context(store) for store in stores]
                    readers = [await follow(store, "s") for store in opened]
                    await until(lambda: all(len(reader.chunks) > 3 for reader in readers))
                    process.send_signal(signal.SIGKILL)
                    began = time.monotonic()
                    texts = [await reader.done() for reader in readers]
                    took = time.monotonic() - began
                    assert took < (lease + silence) / 1000 + scale
                    assert all(isinstance(reader.error, ProducerLostError) for reader in readers)
                    expected = await logged(opened[0], "s")
                    assert texts == [expected] * 5
                    info = await opened[0].get_info("s")
                    assert info is not None
                    assert (info.status, info.lease_expires_at) == ("failed", None)
                    entries = await opened[0]._requests.command("s", b"XRANGE", KEYS.stream, b"-", b"+")
                    assert sum(b"lost" in fields for _id, fields in entries) == 1
                    with pytest.raises(StreamClosedError):
                        await opened[0].create_writer("s", "successor")

        await steady(killed)

    async def test_paused_stream_loses_no_producer_until_it_is_resumed(self, server_url: str) -> None:
        async with storage(server_url, block_timeout=100) as store:
            with producer(server_url, 2000) as process:
                reader = await follow(store, "s")
                await store.pause_stream("s")
                process.send_signal(signal.SIGKILL)
                process.wait()
            while await store._requests.command("s", b"EXISTS", KEYS.lease):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.35)
            assert not reader.task.done()
            info = await store.get_info("s")
            assert info is not None
            assert info.status == "paused"
            await store.resume_stream("s")
            await reader.done()
            assert isinstance(reader.error, ProducerLostError)

    async def test_living_producer_keeps_its_lease_through_cuts(self, server_url: str, fault_proxy: FaultProxy) -> None:
        async def living(scale: int) -> None:
            await emptied(server_url)
            async with storage(server_url, block_timeout=50) as direct, storage(fault_proxy.url) as store:
                writer = await store.create_writer("s", "agent", lease_ms=1000 * scale)
                reader = await follow(direct, "s")
                end = time.monotonic() + 1.6 * scale
                while time.monotonic() < end:
                    fault_proxy.cut_all()
                    await asyncio.sleep(0.1)
                await writer.write(text("still here"))
                await writer.close()
                await direct.end_stream("s")
                assert await reader.done() == ["still here"]

        await steady(living)

    async def test_closed_writer_and_cancelled_opening_leave_no_lease_behind(self, server_url: str) -> None:
        async with storage(server_url, block_timeout=50) as store:
            await store.create("s")
            for turns in range(40):
                opening = asyncio.ensure_future(store.create_writer("s", "cancelled", lease_ms=150))
                for _ in range(turns):
                    await asyncio.sleep(0)
                opening.cancel()
                opened = await asyncio.gather(opening, return_exceptions=True)
                if not isinstance(opened[0], BaseException):
                    await opened[0].close()
                assert await store._requests.command("s", b"HGET", KEYS.meta, b"leases") is None
            reader = await follow(store, "s")
            await asyncio.sleep(0.3)
            assert not reader.task.done()
            await (await store.create_writer("s", "agent")).write(text("a"))
            await store.fail_stream("s", "enough")
            assert await reader.done() == ["a"]
            assert isinstance(reader.error, StreamFailedError)
            assert not isinstance(reader.error, ProducerLostError)


async def test_following_reports_what_ended_it(server_url: str) -> None:
    """The support class itself: an error ends it and is kept."""
    async with storage(server_url) as store:
        await store.create("s")
        reader: Following = await follow(store, "s")
        await store.fail_stream("s", "why")
        await reader.done()
        assert isinstance(reader.error, StreamFailedError)
        assert reader.error.error == "why"


async def test_pages_get_through_a_link_that_breaks_every_few_kilobytes(
    server_url: str, fault_proxy: FaultProxy
) -> None:
    """A page is 64 entries or 128 KiB at first: too much for such a link, however often it is requested."""

    async def keep_breaking() -> None:
        while True:
            if fault_proxy._budget["reply"] is None:
                fault_proxy.cut_after_reply_bytes(6000)
            await asyncio.sleep(0.001)

    async with (
        storage(server_url) as writing,
        connect(fault_proxy.url, retry_timeout=30) as reading,
    ):
        writer = await writing.create_writer("s", "agent")
        for n in range(150):
            await writer.write(text(f"{n}{'x' * 1000}"))
        await writing.end_stream("s")
        breaking = asyncio.ensure_future(keep_breaking())
        try:
            found = [stored async for stored in reading.streams.read("s")]
        finally:
            breaking.cancel()
        assert [stored.sequence for stored in found] == list(range(1, 151))
        assert fault_proxy.accepted > 20
