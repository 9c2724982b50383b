"""What becomes of a stream: ended, failed, paused, stopped, reset, deleted; seen from this process and another one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from helix_fast import (
    HelixError,
    ProducerLostError,
    StoreClosedError,
    StreamClosedError,
    StreamDeletedError,
    StreamFailedError,
    StreamNotFoundError,
    StreamResetError,
)
from helix_fast.interfaces import StreamManager, StreamWriter
from helix_fast.testing.contract.chunk_helpers import number, numbers, rest, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams, StopRenewing
from helix_fast.testing.waiting import steady, until

Two = tuple[StreamManager, StreamManager]


@pytest.fixture
def two(make_streams: MakeStreams) -> Two:
    """Managers with connections of their own. Neither reads a log unless a push has it do so."""
    return make_streams(block_timeout=60_000), make_streams(block_timeout=60_000)


async def refused(writer: StreamWriter) -> StreamClosedError:
    with pytest.raises(StreamClosedError) as caught:
        await writer.write(number(0))
    return caught.value


async def test_an_ended_stream_ends_its_readers_and_refuses_writers(two: Two) -> None:
    here, there = two
    mine, other = await here.create_writer("s", "a"), await there.create_writer("s", "b")
    await mine.write_many(numbers(range(10)))
    readers = [await manager.create_resumable_reader("s") for manager in two]
    reading = [asyncio.ensure_future(rest(reader)) for reader in readers]
    mine.send(number(10))
    await here.end_stream("s", {"answer": [42, None, "é"]})
    for task in reading:
        assert sequences(await task) == list(range(1, 12)), "what was sent before the end comes before it"
    for manager in two:
        info = await manager.get_info("s")
        assert info is not None
        assert (info.status, info.output, info.error) == ("ended", {"answer": [42, None, "é"]}, None)
        assert (info.first_sequence, info.last_sequence, info.chunk_count) == (1, 11, 11)
    for writer in (mine, other):
        assert (await refused(writer)).status == "ended"
    with pytest.raises(StreamClosedError):
        await here.create_writer("s", "a")
    assert sequences(await rest(await there.create_resumable_reader("s", from_sequence=9))) == [10, 11]
    assert await rest(await there.create_resumable_reader("s", from_sequence=11)) == []


async def test_ending_twice_is_no_error_and_failing_afterwards_is(two: Two) -> None:
    for stream, first, second in (("e", "end_stream", "fail_stream"), ("f", "fail_stream", "end_stream")):
        await two[0].create_writer(stream, "a")
        await getattr(two[0], first)(stream, "one")
        await getattr(two[1], first)(stream, "two")
        with pytest.raises(StreamClosedError) as caught:
            await getattr(two[1], second)(stream, "three")
        info = await two[0].get_info(stream)
        assert info is not None
        assert caught.value.status == info.status == ("ended" if stream == "e" else "failed")
        assert (info.output or info.error) == "one"
        for late in ("pause_stream", "resume_stream", "request_stop"):
            with pytest.raises(StreamClosedError):
                await getattr(two[1], late)(stream)


@pytest.mark.parametrize("output", [None, False, 0, "", [], {}, "null", 2**60, 1.5])
async def test_the_output_comes_back_as_it_was(streams: StreamManager, output: Any) -> None:
    await streams.create_writer("s", "a")
    await streams.end_stream("s", output)
    info = await streams.get_info("s")
    assert info is not None
    assert info.output == output
    assert type(info.output) is type(output)


async def test_a_failed_stream_fails_its_readers_after_the_last_chunk(two: Two) -> None:
    here, there = two
    async with await here.create_writer("s", "a") as writer:
        await writer.write_many(numbers(range(3)))
    reader = await there.create_resumable_reader("s")
    assert reader is not None
    await here.fail_stream("s", "out of luck")
    assert sequences(await take(reader, 3)) == [1, 2, 3]
    for _ in range(2):
        with pytest.raises(StreamFailedError) as caught:
            await reader.__anext__()
        assert (caught.value.error, caught.value.code) == ("out of luck", "stream_failed")
        assert not isinstance(caught.value, ProducerLostError)
    info = await here.get_info("s")
    assert info is not None
    assert (info.status, info.error) == ("failed", "out of luck")
    with pytest.raises(StreamFailedError):
        await rest(await here.create_resumable_reader("s", from_sequence=3))


async def test_a_paused_stream_takes_writes_and_is_resumed(two: Two) -> None:
    here, there = two
    writer = await here.create_writer("s", "a")
    await there.pause_stream("s")
    info = await here.get_info("s")
    assert info is not None
    assert info.status == "paused"
    assert await writer.write(number(1)) == 1
    await there.resume_stream("s")
    info = await here.get_info("s")
    assert info is not None
    assert info.status == "active"


async def test_no_producer_is_missed_while_paused(make_streams: MakeStreams, stop_renewing: StopRenewing) -> None:
    streams = make_streams(block_timeout=30)

    async def paused(scale: int) -> None:
        stream = f"s{scale}"
        gone = make_streams()
        writer = await gone.create_writer(stream, "a", lease_ms=400 * scale)
        await writer.write(number(1))
        reader = await streams.create_resumable_reader(stream)
        await take(reader, 1)
        await streams.pause_stream(stream)
        await stop_renewing(gone)  # as a producer that hangs does
        with pytest.raises(asyncio.TimeoutError):
            await take(reader, 1, seconds=0.7 * scale)
        await streams.resume_stream(stream)
        reader = await streams.create_resumable_reader(stream, from_sequence=1)
        with pytest.raises(ProducerLostError):
            await take(reader, 1)

    await steady(paused, probe=lambda: streams.get_info("another"))


async def test_a_stop_request_reaches_writers_everywhere_within_100_ms(two: Two) -> None:
    here, there = two
    writers = [await manager.create_writer("s", "a") for manager in two]
    bystander = await there.create_writer("t", "a")
    for writer in writers:
        await writer.write(number(0))
    delays = []
    for stream in ("t1", "t2", "t3", "s"):  # a busy machine may be late once
        told = writers if stream == "s" else [await manager.create_writer(stream, "a") for manager in two]
        begun = time.monotonic()
        await here.request_stop(stream, "user\npressed stop")
        await asyncio.gather(*(asyncio.wait_for(writer.stop_requested.wait(), 30) for writer in told))
        delays.append(time.monotonic() - begun)
    assert min(delays) < 0.1
    assert {writer.stop_reason for writer in writers} == {"user\npressed stop"}
    assert not bystander.stop_requested.is_set()
    assert await writers[1].write(number(1)) == 3, "a writer may finish what it is doing"
    info = await there.get_info("s")
    assert info is not None
    assert (info.stop_requested, info.stop_reason, info.status) == (True, "user\npressed stop", "active")
    assert sequences(await take(await here.create_resumable_reader("s"), 3)) == [1, 2, 3]


async def test_a_stop_request_is_durable(make_streams: MakeStreams) -> None:
    one = make_streams()
    await (await one.create_writer("s", "a")).close()
    await one.request_stop("s")
    writer = await make_streams().create_writer("s", "b")
    assert writer.stop_requested.is_set()
    assert writer.stop_reason is None
    await one.reset_stream("s")
    assert not (await one.create_writer("s", "a")).stop_requested.is_set(), "a new life begins unstopped"


async def test_reset_begins_a_new_life_and_sequences_go_on(two: Two) -> None:
    here, there = two
    old = await there.create_writer("s", "a")
    await old.write_many(numbers(range(7)))
    reader = await there.create_resumable_reader("s")
    await take(reader, 7)
    waiting = asyncio.ensure_future(take(reader, 1))
    await asyncio.sleep(0.02)
    epoch = await here.reset_stream("s")
    with pytest.raises(StreamResetError) as caught:
        await waiting
    assert caught.value.current_epoch == epoch
    old.send(number(100))
    with pytest.raises(StreamResetError) as caught:
        await old.flush()
    assert caught.value.current_epoch == epoch
    assert caught.value.unsent == (b'{"type":"number","n":100}',)
    with pytest.raises(StreamResetError):
        await old.write(number(101))
    info = await here.get_info("s")
    assert info is not None
    assert (info.epoch, info.first_sequence, info.last_sequence, info.chunk_count) == (epoch, 8, 7, 0)
    new = await there.create_writer("s", "a")
    assert await new.write(number(8)) == 8
    assert sequences(await take(await here.create_resumable_reader("s"), 1)) == [8]


async def test_reset_revives_an_ended_stream(two: Two) -> None:
    writer = await two[0].create_writer("s", "a")
    await writer.write(number(1))
    await two[0].end_stream("s", "out")
    epochs = {writer.epoch, await two[1].reset_stream("s"), await two[0].reset_stream("s")}
    assert len(epochs) == 3
    info = await two[0].get_info("s")
    assert info is not None
    assert (info.status, info.output, info.created_at is not None) == ("active", None, True)
    assert await (await two[0].create_writer("s", "a")).write(number(2)) == 2


async def test_a_deleted_stream_is_gone_and_not_brought_back(two: Two) -> None:
    here, there = two
    writer = await there.create_writer("s", "a")
    await writer.write(number(1))
    reader = await there.create_resumable_reader("s", from_sequence=1)
    waiting = asyncio.ensure_future(take(reader, 1))
    await asyncio.sleep(0.02)
    assert await here.delete_stream("s")
    with pytest.raises(StreamDeletedError):
        await waiting
    assert not await here.delete_stream("s")
    writer.send(number(2))
    with pytest.raises(StreamDeletedError) as caught:
        await writer.flush()
    assert caught.value.unsent == (b'{"type":"number","n":2}',)
    assert (await refused(writer)).status == "deleted"
    assert await here.get_info("s") is None
    assert await here.create_reader("s") is None


async def test_a_stream_made_again_after_its_deletion_is_another_one(two: Two) -> None:
    old = await two[0].create_writer("s", "a")
    await old.write(number(1))
    await two[1].delete_stream("s")
    new = await two[1].create_writer("s", "a")
    assert new.epoch != old.epoch
    with pytest.raises(StreamResetError):
        await old.write(number(2))
    assert await new.write(number(3)) == 1
    with pytest.raises(StreamResetError):
        await two[0].create_resumable_reader("s", from_sequence=0, epoch=old.epoch)


async def test_a_stream_made_again_begins_above_a_term_that_is_ahead_of_the_clock(two: Two) -> None:
    for attempt in range(1, 6):
        old = await two[0].create_writer("s", "a")
        taken = await two[0].create_writer("s", "a", fencing_token=attempt)
        await taken.write(number(1))
        await two[1].delete_stream("s")
        new = await two[1].create_writer("s", "a")
        with pytest.raises(StreamResetError):
            await taken.write(number(2))
        assert await new.write(number(3)) == 1
        await two[1].delete_stream("s")
        await old.close()


async def test_what_needs_a_stream_says_when_there_is_none(streams: StreamManager) -> None:
    for attempt in ("end_stream", "pause_stream", "resume_stream", "request_stop", "reset_stream"):
        with pytest.raises(StreamNotFoundError) as caught:
            await getattr(streams, attempt)("s")
        assert (caught.value.code, caught.value.stream_id) == ("stream_not_found", "s")
    with pytest.raises(StreamNotFoundError):
        await streams.fail_stream("s", "e")
    assert not await streams.delete_stream("s")


async def test_a_writer_that_closes_is_no_lost_producer(make_streams: MakeStreams) -> None:
    streams, watcher = make_streams(), make_streams(block_timeout=30)

    async def closed(scale: int) -> None:
        stream, lease = f"s{scale}", 500 * scale
        # opened at the same time: one lease for both
        writers = await asyncio.gather(*(streams.create_writer(stream, "a", lease_ms=lease) for _ in range(3)))
        taken = await streams.create_writer(stream, "a", fencing_token=5, lease_ms=lease)
        for writer in writers:
            await writer.close()
        info = await watcher.get_info(stream)
        assert info is not None
        assert info.lease_expires_at is not None, "an older term's writer leaves the newer lease alone"
        await taken.close()
        info = await watcher.get_info(stream)
        assert info is not None
        assert info.lease_expires_at is None
        reader = await watcher.create_resumable_reader(stream)
        with pytest.raises(asyncio.TimeoutError):
            await take(reader, 1, seconds=0.8 * scale)

    await steady(closed, probe=lambda: watcher.get_info("another"))


async def test_concurrent_writers_that_close_hold_no_lease(make_streams: MakeStreams) -> None:
    streams, watcher = make_streams(), make_streams(block_timeout=30)
    writers = await asyncio.gather(*(streams.create_writer("s", "a", lease_ms=60) for _ in range(4)))
    for writer in writers:
        await writer.close()
    reader = await watcher.create_resumable_reader("s")
    with pytest.raises(asyncio.TimeoutError):
        await take(reader, 1, seconds=0.3)


async def test_a_lease_is_renewed_while_the_writer_is_open(make_streams: MakeStreams) -> None:
    streams, watcher = make_streams(), make_streams(block_timeout=30)

    async def renewed(scale: int) -> None:
        stream = f"s{scale}"
        writer = await streams.create_writer(stream, "a", lease_ms=600 * scale)
        reader = await watcher.create_resumable_reader(stream)
        with pytest.raises(asyncio.TimeoutError):
            await take(reader, 1, seconds=1.2 * scale)
        reader = await watcher.create_resumable_reader(stream)
        assert await writer.write(number(1)) == 1
        assert sequences(await take(reader, 1)) == [1]

    await steady(renewed, probe=lambda: watcher.get_info("another"))


async def test_a_lost_producer_is_told_to_all(make_streams: MakeStreams, stop_renewing: StopRenewing) -> None:
    streams = make_streams(block_timeout=40)
    gone = make_streams()
    writer = await gone.create_writer("s", "a", lease_ms=80)
    await writer.write_many(numbers(range(3)))
    readers = [await manager.create_resumable_reader("s") for manager in (streams, make_streams(block_timeout=40)) * 3]
    await stop_renewing(gone)
    for reader in readers:
        assert sequences(await take(reader, 3)) == [1, 2, 3]
    for outcome in await asyncio.gather(*(take(reader, 1, seconds=30) for reader in readers), return_exceptions=True):
        assert isinstance(outcome, ProducerLostError)
    info = await streams.get_info("s")
    assert info is not None
    assert (info.status, info.last_sequence) == ("failed", 3)
    assert (await refused(writer)).status == "failed"


async def test_closing_the_manager_ends_its_readers(streams: StreamManager) -> None:
    await streams.create_writer("s", "a")
    reader = await streams.create_resumable_reader("s")
    assert reader is not None
    waiting = asyncio.ensure_future(reader.__anext__())
    await asyncio.sleep(0.02)
    await streams.close()
    with pytest.raises(StoreClosedError):
        await asyncio.wait_for(waiting, 5)


async def test_background_errors_reach_the_callback_and_not_another_event(streams: StreamManager) -> None:
    errors: list[HelixError] = []
    streams.on("error", errors.append)
    with pytest.raises(HelixError):
        streams.on("other", errors.append)  # type: ignore[arg-type]
    writer = await streams.create_writer("s", "a")
    await streams.delete_stream("s")
    writer.send(number(1))
    await until(lambda: bool(errors), what="the report of what could not be stored")
    assert isinstance(errors[0], StreamDeletedError)
    with pytest.raises(StreamDeletedError):
        await writer.flush()
