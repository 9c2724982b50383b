"""Every public coroutine, cancelled at each of its steps: the next call gets its own reply and the log stays right."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from helix_fast import connect
from helix_fast.errors import HelixError
from helix_fast.keys import StreamKeys
from helix_fast.streams.writer import StreamWriter
from tests.support.streams_under_fault import StreamStore, delta, logged, storage, text

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]
MOST_STEPS = 400
Call = Callable[[StreamStore, StreamWriter, str], Coroutine[Any, Any, object]]


async def cancelled_at(turns: int, call: Coroutine[Any, Any, object]) -> bool:
    """Run it for so many turns of the loop, then cancel it; whether it was cancelled before it was done."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
        if task.done():
            break
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def at_every_step(call: Callable[[int], Awaitable[bool]]) -> int:
    """Cancel at step 0, 1, 2…, until two runs in a row came to their end; how many were cancelled."""
    cancelled = completed = 0
    for turns in range(MOST_STEPS):
        if await call(turns):
            cancelled, completed = cancelled + 1, 0
        else:
            completed += 1
            if completed == 2:
                return cancelled
    pytest.fail("it never came to its end")


async def send_and_flush(_store: StreamStore, writer: StreamWriter, _stream: str) -> None:
    writer.send_text("x")
    await writer.flush()


async def send_and_drain(_store: StreamStore, writer: StreamWriter, _stream: str) -> None:
    for _ in range(20):
        writer.send_text("x")
    await writer.drain()


async def open_reader(store: StreamStore, _writer: StreamWriter, stream: str) -> None:
    reader = await store.create_resumable_reader(stream)
    assert reader is not None
    await reader.close()


async def open_writer(store: StreamStore, _writer: StreamWriter, stream: str) -> None:
    await (await store.create_writer(stream, "other", lease_ms=60_000)).close()


async def subscription(store: StreamStore, _writer: StreamWriter, stream: str) -> None:
    heard = asyncio.Event()
    stop = store.subscribe(stream, lambda _chunk, _sequence: heard.set(), from_sequence=0)
    try:
        await heard.wait()
    finally:
        await stop()


CALLS: dict[str, Call] = {
    "write": lambda _store, writer, _stream: writer.write(text("x")),
    "write_many": lambda _store, writer, _stream: writer.write_many([text("x")] * 11),
    "flush": send_and_flush,
    "drain": send_and_drain,
    "close": lambda _store, writer, _stream: writer.close(),
    "append": lambda store, _writer, stream: store.append(stream, text("x"), 3),
    "append_many": lambda store, _writer, stream: store.append_many(stream, [text("x")] * 11, 3),
    "read_from": lambda store, _writer, stream: store.read_from(stream),
    "get_info": lambda store, _writer, stream: store.get_info(stream),
    "create": lambda store, _writer, stream: store.create(stream + "-new"),
    "create_writer": open_writer,
    "create_reader": open_reader,
    "end_stream": lambda store, _writer, stream: store.end_stream(stream),
    "fail_stream": lambda store, _writer, stream: store.fail_stream(stream, "why"),
    "pause_stream": lambda store, _writer, stream: store.pause_stream(stream),
    "request_stop": lambda store, _writer, stream: store.request_stop(stream),
    "reset_stream": lambda store, _writer, stream: store.reset_stream(stream),
    "delete_stream": lambda store, _writer, stream: store.delete_stream(stream),
    "subscribe": subscription,
}
ENDS = {"end_stream", "fail_stream", "reset_stream", "delete_stream", "close"}


@pytest.mark.parametrize("name", CALLS)
async def test_next_call_gets_its_own_reply_and_the_log_is_right(server_url: str, name: str) -> None:
    async with (
        storage(server_url, max_stream_length=100, max_buffered_bytes=100) as store,
        storage(server_url) as direct,
    ):

        async def run(turns: int) -> bool:
            stream = f"s{turns}"
            writer = await store.create_writer(stream, "agent")
            await writer.write_many([text("0"), text("1")])
            cancelled = await cancelled_at(turns, CALLS[name](store, writer, stream))
            # the next requests on the same lane, by reply of another shape each
            assert await store._requests.command("", b"ECHO", f"{turns}") == b"%d" % turns
            assert (await store._requests.command("", b"TIME"))[0].isdigit()
            with contextlib.suppress(HelixError):
                assert await writer.write(text("after")) > 0
            if name not in {"delete_stream", "reset_stream"}:
                found = await logged(direct, stream)
                assert found[:2] == ["0", "1"]
                rest = found[2:]
                if name not in ENDS:
                    assert rest.count("after") == 1
                assert rest.count("x") in {"drain": range(21), "write_many": (0, 11), "append_many": (0, 11)}.get(
                    name, (0, 1)
                )
            with contextlib.suppress(HelixError):
                await writer.close()
            return cancelled

        assert await at_every_step(run) > 0
        assert len(store._appenders) == 0
        leased = StreamKeys("helix:", "s3")
        assert await direct._requests.command("s3", b"EXISTS", leased.lease) == 0
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not any("recover" in one or "keeper" in one or "subscription" in one for one in names)


@pytest.mark.parametrize("live", [False, True])
async def test_reader_step_given_up_anywhere_loses_no_chunk(server_url: str, live: bool) -> None:
    async with storage(server_url, block_timeout=60_000) as store:
        writer = await store.create_writer("s", "agent")
        if not live:
            await writer.write_many([text(n) for n in range(400)])
        reader = await store.create_resumable_reader("s")
        assert reader is not None
        got: list[int] = []

        async def step() -> None:
            stored = await reader.__anext__()
            got.append(stored.sequence)
            assert delta(stored.chunk) == str(stored.sequence - 1)

        for n in range(200):
            if live:
                writer.send_text(str(n))
            await cancelled_at(n % 23, step())
        await writer.flush()
        total = 200 if live else 400
        while len(got) < total:
            await asyncio.wait_for(step(), 5)
        assert got == list(range(1, total + 1))
        await reader.close()


async def test_reader_opened_from_a_long_log_survives_a_cancelled_subscription(server_url: str) -> None:
    """The step that reads the last page must hand it out even where the subscription that follows is given up."""
    async with storage(server_url, block_timeout=60_000, max_stream_length=0) as store:
        writer = await store.create_writer("s", "agent")
        for n in range(70):  # more entries than the first page has
            await writer.write(text(n))

        async def run(turns: int) -> bool:
            reader = await store.create_resumable_reader("s")
            assert reader is not None
            for _ in range(64):
                await reader.__anext__()
            cancelled = await cancelled_at(turns, reader.__anext__())
            position = reader.position.sequence
            rest = [(await asyncio.wait_for(reader.__anext__(), 5)).sequence for _ in range(70 - position)]
            assert rest == list(range(position + 1, 71))
            await reader.close()
            return cancelled

        assert await at_every_step(run) > 0


async def test_close_of_a_store_cancelled_anywhere_closes_it_all_the_same(server_url: str) -> None:
    before = asyncio.all_tasks()
    async with storage(server_url) as direct:
        await direct._requests.command("", b"PING")

        async def run(turns: int) -> bool:
            helix = await connect(server_url)
            writer = await helix.streams.create_writer("s", "agent", lease_ms=60_000)
            reader = await helix.streams.create_resumable_reader("s")
            assert reader is not None
            writer.send_text("x")
            cancelled = await cancelled_at(turns, helix.close())
            if turns % 2 == 0:  # it is the cancelled one that closes everything; another may be called
                await helix.close()
            return cancelled

        assert await at_every_step(run) > 0
        for _ in range(500):
            if len((await direct._requests.command("", b"CLIENT", b"LIST")).splitlines()) == 1:
                break
            await asyncio.sleep(0.005)
        assert len((await direct._requests.command("", b"CLIENT", b"LIST")).splitlines()) == 1
        assert await direct._requests.command("", b"PUBSUB", b"CHANNELS") == []
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before
