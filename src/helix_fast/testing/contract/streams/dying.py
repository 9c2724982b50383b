"""Producers that die: by an exception, forgotten, or cut off for a while; and writers that end their stream."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from helix_fast import (
    InvalidArgumentError,
    ProducerLostError,
    StreamClosedError,
    StreamDeletedError,
    StreamFailedError,
    StreamFencedError,
    StreamResetError,
)
from helix_fast.interfaces import StreamManager
from helix_fast.testing.contract.chunk_helpers import number, rest, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams, StopRenewing
from helix_fast.testing.contract.lock_helpers import comes_true

LEASE_MS = 300


async def ends_as_lost(streams: StreamManager, stream: str, chunks: int) -> None:
    """A reader gets the chunks, and then that the producer is lost."""
    reader = await streams.create_resumable_reader(stream)
    assert sequences(await take(reader, chunks)) == list(range(1, chunks + 1))
    with pytest.raises(ProducerLostError):
        await take(reader, 1, seconds=30)


@pytest.mark.parametrize("death", [ZeroDivisionError, asyncio.CancelledError, KeyboardInterrupt])
async def test_a_leased_writer_left_by_an_exception_is_a_lost_producer(
    make_streams: MakeStreams, death: type[BaseException]
) -> None:
    streams, watcher = make_streams(), make_streams(block_timeout=30)

    async def die() -> None:
        async with await streams.create_writer("s", "agent", lease_ms=LEASE_MS) as writer:
            writer.send(number(1))
            raise death

    try:
        await die()
    except death:
        await ends_as_lost(watcher, "s", 1)
    else:
        pytest.fail("the exception did not go up")


async def test_a_stream_can_be_failed_behind_a_writer_left_by_an_exception(make_streams: MakeStreams) -> None:
    streams, watcher = make_streams(), make_streams(block_timeout=30)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with await streams.create_writer("s", "agent", lease_ms=60_000) as writer:
            writer.send(number(1))
            raise ZeroDivisionError
    await streams.fail_stream("s", "divided by zero")
    with pytest.raises(StreamFailedError, match="divided by zero") as caught:
        await rest(await watcher.create_resumable_reader("s"))
    assert not isinstance(caught.value, ProducerLostError)


async def test_another_writer_can_go_on_behind_one_left_by_an_exception(make_streams: MakeStreams) -> None:
    streams, watcher = make_streams(), make_streams(block_timeout=30)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with await streams.create_writer("s", "agent", lease_ms=60_000) as writer:
            await writer.write(number(1))
            raise ZeroDivisionError
    async with await streams.create_writer("s", "agent", lease_ms=60_000) as writer:
        assert await writer.write(number(2)) == 2
    info = await watcher.get_info("s")
    assert info is not None
    assert (info.status, info.lease_expires_at) == ("active", None), "the second one has left in good order"


async def test_a_forgotten_writer_is_renewed_no_more(make_streams: MakeStreams) -> None:
    streams, watcher = make_streams(), make_streams(block_timeout=30)
    writer = await streams.create_writer("s", "agent", lease_ms=LEASE_MS)
    kept = await streams.create_writer("kept", "agent", lease_ms=LEASE_MS)
    writer.send(number(1))
    with pytest.warns(ResourceWarning, match="unclosed.*'s'"):  # noqa: PT031
        del writer
        gc.collect()
    await ends_as_lost(watcher, "s", 1)
    assert await kept.write(number(1)) == 1
    await kept.close()


async def test_closed_and_ended_writers_are_forgotten_in_silence(streams: StreamManager) -> None:
    closed, ended = await streams.create_writer("s", "a"), await streams.create_writer("t", "a", lease_ms=60_000)
    await closed.close()
    await ended.end()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        del closed, ended
        gc.collect()
    assert [str(one.message) for one in seen if "writer" in str(one.message).lower()] == []


async def test_a_producer_that_was_away_has_a_moment_to_come_back(
    make_streams: MakeStreams, stop_renewing: StopRenewing
) -> None:
    """Server and producer may have been cut off from each other for longer than the lease."""
    away, watcher = make_streams(), make_streams(block_timeout=30)
    writer = await away.create_writer("s", "agent", lease_ms=2000)
    await writer.write(number(1))
    await stop_renewing(away)

    async def lease_is_over() -> bool:
        info = await watcher.get_info("s")
        return info is not None and info.lease_expires_at is None

    await comes_true(lease_is_over)
    reader = await watcher.create_resumable_reader("s")  # the first that finds the lease gone
    assert sequences(await take(reader, 1)) == [1]
    again = await make_streams().create_writer("s", "agent", lease_ms=60_000)  # as the renewal of the producer would
    with pytest.raises(asyncio.TimeoutError):
        await take(reader, 1, seconds=2.5)
    reader = await watcher.create_resumable_reader("s", from_sequence=1)
    assert await writer.write(number(2)) == 2
    assert sequences(await take(reader, 1)) == [2]
    await again.end()
    assert await rest(reader) == []


async def test_a_writer_ends_its_stream(make_streams: MakeStreams) -> None:
    streams, watcher = make_streams(), make_streams()
    reading = asyncio.ensure_future(take_all(watcher, "s"))
    async with await streams.create_writer("s", "agent", lease_ms=60_000) as writer:
        writer.send(number(1))
        await writer.write(number(2))
        writer.send(number(3))
        await writer.end({"answer": 42})
        await writer.end({"answer": 42})
    assert await reading == [1, 2, 3]
    info = await watcher.get_info("s")
    assert info is not None
    assert (info.status, info.output, info.lease_expires_at) == ("ended", {"answer": 42}, None)
    with pytest.raises(StreamClosedError):
        await writer.fail("too late")
    with pytest.raises(StreamClosedError, match="this writer is closed") as caught:
        await writer.write(number(4))
    assert "create_writer" in caught.value.hint


async def take_all(streams: StreamManager, stream: str) -> list[int]:
    return [stored.sequence async for stored in streams.read(stream, wait_ms=30_000)]


async def test_a_writer_fails_its_stream(make_streams: MakeStreams) -> None:
    streams, watcher = make_streams(), make_streams()
    for stream, error, told in (("s", "out of luck", "out of luck"), ("t", ValueError("wrong"), "wrong")):
        writer = await streams.create_writer(stream, "agent")
        writer.send(number(1))
        await writer.fail(error)
        with pytest.raises(StreamFailedError, match=told):
            await rest(await watcher.create_resumable_reader(stream))
        with pytest.raises(StreamClosedError):
            await writer.end()


async def test_a_writer_ends_no_other_stream_of_that_id(make_streams: MakeStreams) -> None:
    streams, others = make_streams(), make_streams()
    reset = await streams.create_writer("reset", "agent")
    await others.reset_stream("reset")
    deleted = await streams.create_writer("deleted", "agent")
    await others.delete_stream("deleted")
    fenced = await streams.create_writer("fenced", "agent")
    await others.create_writer("fenced", "agent", fencing_token=5)
    for writer, error in ((reset, StreamResetError), (deleted, StreamDeletedError), (fenced, StreamFencedError)):
        with pytest.raises(error):
            await writer.end()
    for stream in ("reset", "fenced"):
        info = await others.get_info(stream)
        assert info is not None
        assert info.status == "active"
    again = await others.create_writer("deleted", "agent")
    with pytest.raises(StreamResetError):
        await deleted.end()
    assert await again.write(number(1)) == 1


async def test_an_output_that_is_no_json_leaves_the_writer_open(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "agent")
    with pytest.raises(InvalidArgumentError):
        await writer.end(object())
    assert await writer.write(number(1)) == 1
    await writer.end()
