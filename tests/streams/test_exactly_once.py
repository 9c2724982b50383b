"""Every acknowledged chunk is stored once, wherever the connection is cut; a repeated call doubles nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest

from helix_fast.errors import StaleFencingTokenError, StoreConnectionError, StreamClosedError, StreamFencedError
from helix_fast.streams.writer import StreamWriter
from helix_fast.testing.waiting import until
from tests.support.proxy import REPLY, REQUEST, FaultProxy
from tests.support.streams_under_fault import StreamStore, collect_errors, logged, storage, text

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]
MANY = 11  # with a kept length of 100 an entry takes 4 chunks: three batches
Operation = Callable[[StreamStore, StreamWriter, str], Awaitable[None]]


async def write(_store: StreamStore, writer: StreamWriter, _stream: str) -> None:
    chunk = text("a")
    await repeated(lambda: writer.write(chunk), lambda sequence: sequence == 2)


async def write_many(_store: StreamStore, writer: StreamWriter, _stream: str) -> None:
    chunks = [text(n) for n in range(MANY)]
    await repeated(lambda: writer.write_many(chunks), lambda sequence: sequence == MANY + 1)


async def send(_store: StreamStore, writer: StreamWriter, _stream: str) -> None:
    for n in range(MANY):
        writer.send_text(str(n))
    await repeated(writer.flush)


async def append(store: StreamStore, _writer: StreamWriter, stream: str) -> None:
    await repeated(lambda: store.append(stream, text("a"), 2))


async def append_many(store: StreamStore, _writer: StreamWriter, stream: str) -> None:
    chunks = [text(n) for n in range(MANY)]
    await repeated(lambda: store.append_many(stream, chunks, 2))


OPERATIONS: dict[str, tuple[Operation, list[str]]] = {
    "write": (write, ["0", "a"]),
    "write_many": (write_many, ["0", *map(str, range(MANY))]),
    "send": (send, ["0", *map(str, range(MANY))]),
    "append": (append, ["0", "a"]),
    "append_many": (append_many, ["0", *map(str, range(MANY))]),
}
reopen: list[Callable[[], Awaitable[None]]] = []


async def repeated(call: Callable[[], Awaitable[object]], right: Callable[[object], bool] = lambda _: True) -> None:
    """Call until it does not raise a connection error; in between the way to the server is opened again."""
    for _ in range(10):
        try:
            result = await call()
        except StoreConnectionError:  # noqa: PERF203
            for again in reopen:
                await again()
        else:
            assert right(result), result
            return
    pytest.fail("it never succeeded")


async def prepared(store: StreamStore, stream: str) -> StreamWriter:
    writer = await store.create_writer(stream, "agent")
    await writer.write(text(0))
    return writer


async def sizes(proxy: FaultProxy, store: StreamStore, operation: Operation) -> dict[str, int]:
    """Bytes that the operation takes each way."""
    for stream in ("warm", "measured"):  # the first makes the server know the scripts
        writer = await prepared(store, stream)
        if stream == "warm":
            await operation(store, writer, stream)
    before = proxy.request_bytes, proxy.reply_bytes
    await operation(store, writer, "measured")
    await store._requests.command("", b"PING")  # behind the last PUBLISH
    return {REQUEST: proxy.request_bytes - before[0], REPLY: proxy.reply_bytes - before[1]}


def cut(proxy: FaultProxy, direction: str, offset: int) -> None:
    if direction == REQUEST:
        proxy.cut_after_request_bytes(offset)
    else:
        proxy.cut_after_reply_bytes(offset)


def offsets(total: int, count: int) -> list[int]:
    """Before, inside at so many places, and after."""
    step = max(1, total // count)
    return sorted({*range(0, total + 1, step), 1, total - 1, total})


@pytest.mark.parametrize("direction", [REQUEST, REPLY])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_cut_anywhere_is_healed_within_the_retry_time(
    server_url: str, fault_proxy: FaultProxy, name: str, direction: str
) -> None:
    operation, expected = OPERATIONS[name]
    async with storage(fault_proxy.url, max_stream_length=100) as store, storage(server_url) as direct:
        total = (await sizes(fault_proxy, store, operation))[direction]
        assert total > 4
        for offset in offsets(total, 24):
            stream = f"s{offset}"
            writer = await prepared(store, stream)
            cut(fault_proxy, direction, offset)
            await operation(store, writer, stream)
            fault_proxy.heal()
            assert await logged(direct, stream) == expected, f"cut after {offset} of {total} bytes of {direction}"
    assert fault_proxy.accepted > len(offsets(total, 24)) // 2, "hardly anything was cut"


@pytest.mark.parametrize("direction", [REQUEST, REPLY])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_call_that_raised_can_be_repeated_without_doubling(
    server_url: str, fault_proxy: FaultProxy, name: str, direction: str
) -> None:
    operation, expected = OPERATIONS[name]
    raised, refusing = 0, False

    async def again() -> None:
        nonlocal raised
        raised += 1
        await let_in()

    async def let_in() -> None:
        nonlocal refusing
        fault_proxy.heal()
        if refusing:
            refusing = False
            await fault_proxy.start()

    async with (
        storage(fault_proxy.url, retry_timeout=0, max_stream_length=100) as store,
        storage(server_url) as direct,
    ):
        total = (await sizes(fault_proxy, store, operation))[direction]
        reopen.append(again)
        try:
            for offset in offsets(total, 16):
                stream = f"s{offset}"
                writer = await prepared(store, stream)
                fault_proxy.refuse()
                refusing = True
                cut(fault_proxy, direction, offset)
                await operation(store, writer, stream)
                await let_in()
                await repeated(
                    lambda: store._requests.command("", b"PING")
                )  # a cut behind the last byte shows only now
                assert await logged(direct, stream) == expected, f"cut after {offset} of {total} bytes of {direction}"
        finally:
            reopen.clear()
    assert raised > 5, "hardly any call raised"


@pytest.mark.parametrize("direction", [REQUEST, REPLY])
async def test_write_that_raised_and_is_not_repeated_is_there_once_or_not_at_all(
    server_url: str, fault_proxy: FaultProxy, direction: str
) -> None:
    raised = 0
    async with storage(fault_proxy.url, retry_timeout=0) as store, storage(server_url) as direct:
        total = (await sizes(fault_proxy, store, write))[direction]
        for offset in offsets(total, 12):
            stream = f"s{offset}"
            writer = await prepared(store, stream)
            fault_proxy.refuse()
            cut(fault_proxy, direction, offset)
            try:
                await writer.write(text("given up"))
            except StoreConnectionError:
                raised += 1
            fault_proxy.heal()
            await fault_proxy.start()
            last = await writer.write(text("next"))
            found = await logged(direct, stream)
            assert found in (["0", "next"], ["0", "given up", "next"]), found
            assert last == len(found)
    assert raised > 5


async def test_tasks_of_one_writer_repeat_in_any_order(server_url: str, fault_proxy: FaultProxy) -> None:
    """The repeat is known by its chunk: it need not be the first that comes after the fault."""
    async with storage(fault_proxy.url, retry_timeout=0) as store, storage(server_url) as direct:
        for lost in ("request", "reply"):
            writer = await prepared(store, lost)
            chunks = [text(f"c{n}") for n in range(6)]
            fault_proxy.refuse()
            cut(fault_proxy, lost, 0)
            results = await asyncio.gather(*(writer.write(chunk) for chunk in chunks), return_exceptions=True)
            assert all(isinstance(result, StoreConnectionError) for result in results)
            fault_proxy.heal()
            await fault_proxy.start()
            other = await writer.write(text("another task's"))
            sequences = [await writer.write(chunk) for chunk in reversed(chunks)]
            found = await logged(direct, lost)
            assert sorted(found) == sorted(["0", "another task's", *(f"c{n}" for n in range(6))])
            assert [found[n - 1] for n in [other, *sequences]] == [
                "another task's",
                *(f"c{n}" for n in range(5, -1, -1)),
            ]


async def test_equal_chunk_written_later_is_no_repeat(server_url: str, fault_proxy: FaultProxy) -> None:
    """Tokens come again: only the next thing that a writer does can be the repeat of an equal one."""
    async with storage(fault_proxy.url, retry_timeout=0) as store, storage(server_url) as direct:
        writer = await prepared(store, "s")
        fault_proxy.refuse()
        cut(fault_proxy, REPLY, 0)
        with pytest.raises(StoreConnectionError):
            await writer.write(text("the"))
        fault_proxy.heal()
        await fault_proxy.start()
        await writer.write(text("cat"))
        await writer.write(text("the"))
        assert await logged(direct, "s") == ["0", "the", "cat", "the"]


async def test_chunk_given_up_and_written_again_after_another_is_a_new_one(
    server_url: str, fault_proxy: FaultProxy
) -> None:
    async with storage(fault_proxy.url, retry_timeout=0) as store, storage(server_url) as direct:
        writer = await prepared(store, "s")
        chunk = text("beat")
        fault_proxy.stall()
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.02, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await writer.write(chunk)
        if sys.version_info >= (3, 11):
            task.uncancel()
        fault_proxy.refuse()
        fault_proxy.cut_all()
        await until(lambda: bool(writer._appender.failed.writes), what="the failure")
        fault_proxy.heal()
        await fault_proxy.start()
        await writer.write(text("word"))
        await writer.write(chunk)
        assert await logged(direct, "s") == ["0", "beat", "word", "beat"]


async def test_fault_of_long_ago_does_not_shorten_the_patience_with_the_next(fault_proxy: FaultProxy) -> None:
    async with storage(fault_proxy.url, retry_timeout=0.3) as store:
        writer = await prepared(store, "s")
        chunk = text("a")
        fault_proxy.refuse()
        cut(fault_proxy, REPLY, 0)
        with pytest.raises(StoreConnectionError):
            await writer.write(chunk)
        fault_proxy.heal()
        await fault_proxy.start()
        await writer.write(chunk)
        await asyncio.sleep(0.35)  # as long as its patience: what counts is the time of the new fault alone
        cut(fault_proxy, REPLY, 0)
        assert await writer.write(text("b")) == 3


async def test_batch_in_flight_is_told_when_the_store_closes(
    fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """No write waits for ever: neither one on its way, nor one behind it, nor one being looked into."""
    for stage in ("stalled", "recovering"):
        async with storage(fault_proxy.url) as store:
            errors = collect_errors(store)
            writer = await prepared(store, stage)
            if stage == "stalled":
                fault_proxy.stall()
            else:
                fault_proxy.refuse()
                fault_proxy.cut_all()
            writes = [asyncio.ensure_future(writer.write(text(n))) for n in range(3)]
            writer.send_text("sent")
            flush = asyncio.ensure_future(writer.flush())
            await asyncio.sleep(0.05)
            late = asyncio.ensure_future(writer.write(text("late")))
            await asyncio.sleep(0)
            await store.close()
            results = await asyncio.wait_for(asyncio.gather(*writes, late, flush, return_exceptions=True), 5)
            assert all(isinstance(result, StreamClosedError) for result in results), results
            assert any(b'"sent"' in line for error in errors for line in getattr(error, "unsent", ()))
            with pytest.raises(StreamClosedError):
                await writer.write(text("after"))
            fault_proxy.heal()
            await asyncio.sleep(0.02)  # the connections stand: the reply comes to a writer that is gone
            assert not [record for record in caplog.records if record.name == "helix_fast.transport"]
        fault_proxy.heal()
        if stage == "recovering":
            await fault_proxy.start()


@pytest.mark.parametrize("token", [1, None])
@pytest.mark.parametrize("sent", [True, False])
async def test_a_writer_that_was_taken_over_before_its_reply_writes_nothing_more(
    server_url: str, fault_proxy: FaultProxy, token: int | None, sent: bool
) -> None:
    async with storage(fault_proxy.url) as store, storage(server_url) as direct:
        writer = await store.create_writer("s", "agent", fencing_token=token)
        await writer.write(text("a"))
        fault_proxy.drop_replies()
        writing = asyncio.ensure_future(writer.write(text("b")))
        await stored_in(direct, "s", 2)
        successor = await direct.create_writer("s", "successor", fencing_token=2)
        await successor.write(text("c"))
        if sent:
            writer.send(text("d"))  # behind the batch whose reply is lost
        fault_proxy.heal()
        fault_proxy.cut_all()
        assert await writing == 2, "it was stored before the takeover"
        with pytest.raises(StaleFencingTokenError if token else StreamFencedError):
            await (writer.flush() if sent else writer.write(text("d")))
        await successor.write(text("e"))
        assert await logged(direct, "s") == ["a", "b", "c", "e"]


async def stored_in(store: StreamStore, stream: str, sequence: int) -> None:
    """Wait until the log has so many chunks."""
    while True:
        info = await store.get_info(stream)
        if info is not None and info.last_sequence >= sequence:
            return
        await asyncio.sleep(0.01)
