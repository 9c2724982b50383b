"""Readers: from any sequence exactly the rest, stored and live, with no gap and no repeat at the seam."""

from __future__ import annotations

import asyncio
import random

import pytest

from helix_fast import (
    InvalidArgumentError,
    ReaderBusyError,
    SequenceGapError,
    StreamPosition,
    StreamResetError,
)
from helix_fast.interfaces import StreamManager
from helix_fast.testing.contract.chunk_helpers import number, number_of, numbers, rest, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams

BEFORE_SILENCE = 30
"""Seconds: by then pushes have arrived on a stalled machine too, and no reader has looked at the log for silence."""


async def test_no_stream_no_reader(streams: StreamManager) -> None:
    assert await streams.create_reader("none") is None
    assert await streams.create_resumable_reader("none") is None
    assert await streams.get_info("none") is None


async def test_from_every_sequence_exactly_the_rest(streams: StreamManager) -> None:
    async with await streams.create_writer("s", "a") as writer:
        n = 0
        for size in (1, 3, 1, 7, 2, 100, 1, 5):  # entries of one and of many chunks
            await writer.write_many(numbers(range(n, n + size)))
            n += size
    await streams.end_stream("s")
    for after in range(n + 1):
        found = await rest(await streams.create_resumable_reader("s", from_sequence=after))
        assert sequences(found) == list(range(after + 1, n + 1))
        assert [number_of(one.chunk) for one in found] == list(range(after, n))


async def test_from_sequences_across_take_overs(streams: StreamManager) -> None:
    for token in range(1, 6):
        async with await streams.create_writer("s", "a", fencing_token=token) as writer:
            await writer.write_many(numbers(range(token * 3)))
            await writer.write(number(0))
    info = await streams.get_info("s")
    assert info is not None
    assert info.last_sequence == 50
    for after in range(51):
        found = await take(await streams.create_resumable_reader("s", from_sequence=after), 50 - after)
        assert sequences(found) == list(range(after + 1, 51))


async def test_a_stream_reader_yields_the_chunks_alone_and_ends_with_the_stream(streams: StreamManager) -> None:
    async with await streams.create_writer("s", "a") as writer:
        await writer.write_many(numbers(range(300)))
    reader = await streams.create_reader("s")
    assert reader is not None
    got = [number_of(await reader.__anext__()) for _ in range(300)]
    assert got == list(range(300))
    assert reader.position == (reader.epoch, 300)
    waiting = asyncio.ensure_future(reader.__anext__())
    await asyncio.sleep(0.02)
    await streams.end_stream("s")
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(StopAsyncIteration):
        await reader.__anext__()


async def test_live_chunks_follow_stored_ones(make_streams: MakeStreams) -> None:
    streams, elsewhere = make_streams(), make_streams()
    writer = await streams.create_writer("s", "a")
    await writer.write_many(numbers(range(5)))
    readers = [await manager.create_resumable_reader("s", from_sequence=2) for manager in (streams, elsewhere)]
    for reader in readers:
        assert sequences(await take(reader, 3)) == [3, 4, 5]
    for n in range(5, 25):
        await writer.write(number(n))
    writer.send_text("x")
    for reader in readers:
        assert sequences(await take(reader, 21)) == list(range(6, 27))


async def stored_meets_live(make_streams: MakeStreams, seed: int) -> None:
    # pushes alone must do: the log is read after a silence that is longer than this test waits
    managers = [make_streams(block_timeout=2000 * BEFORE_SILENCE) for _ in range(3)]
    dice = random.Random(seed)
    writers = [await manager.create_writer(f"s{seed}", "a") for manager in managers]
    done = False

    async def write(writer_index: int) -> None:
        writer = writers[writer_index]
        for _ in range(60):
            await writer.write_many(numbers(range(dice.randrange(1, 5))))
            await asyncio.sleep(dice.choice((0, 0, 0.001)))

    async def read() -> None:
        while not done:
            info = await managers[0].get_info(f"s{seed}")
            assert info is not None
            after = min(info.last_sequence, dice.choice((0, dice.randrange(0, 40))))
            reader = await dice.choice(managers).create_resumable_reader(f"s{seed}", from_sequence=after)
            await asyncio.sleep(0)
            found = await take(reader, dice.randrange(1, 30), seconds=BEFORE_SILENCE)
            assert sequences(found) == list(range(after + 1, after + 1 + len(found)))
            assert reader is not None
            if dice.random() < 0.5:
                await reader.close()
            await asyncio.sleep(0)

    async def follow() -> list[int]:
        await asyncio.sleep(dice.random() * 0.05)
        reader = await dice.choice(managers).create_resumable_reader(f"s{seed}")
        return sequences(await rest(reader, seconds=None))  # writing takes as long as the machine needs

    followers = [asyncio.ensure_future(follow()) for _ in range(8)]
    # take() waits for the log to be long enough, so readers go on until the writers are done
    reading = [asyncio.ensure_future(read()) for _ in range(3)]
    await asyncio.gather(*(write(n) for n in range(3)))
    done = True
    last = await writers[0].write_many(numbers(range(100)))
    await asyncio.gather(*reading)
    await managers[1].end_stream(f"s{seed}")
    for found in await asyncio.wait_for(asyncio.gather(*followers), BEFORE_SILENCE):
        assert found == list(range(1, last + 1))


async def test_nothing_is_lost_or_repeated_where_stored_meets_live(make_streams: MakeStreams, thorough: bool) -> None:
    for seed in range(10 if thorough else 2):
        await stored_meets_live(make_streams, seed)


@pytest.mark.parametrize("pending", [0, 63, 64, 65, 700])
async def test_a_read_that_was_given_up_loses_nothing(streams: StreamManager, pending: int) -> None:
    writer = await streams.create_writer("s", "a")
    await writer.write(number(0))
    reader = await streams.create_resumable_reader("s")
    assert reader is not None
    for n in range(1, pending + 1):
        await writer.write(number(n))  # an entry each: more than a page of them
    found = []
    for turns in range(60):
        waiting = asyncio.ensure_future(reader.__anext__())
        for _ in range(turns % 12):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            found.append((await waiting).sequence)
        except asyncio.CancelledError:
            continue
    await streams.end_stream("s")
    found += sequences(await rest(reader))
    assert found == list(range(1, pending + 2))


async def test_a_position_before_what_is_kept_is_a_gap(make_streams: MakeStreams) -> None:
    streams = make_streams(max_stream_length=25)
    writer = await streams.create_writer("s", "a")
    for n in range(100):
        await writer.write(number(n))
    info = await streams.get_info("s")
    assert info is not None
    first = info.first_sequence
    assert first > 10
    with pytest.raises(SequenceGapError) as caught:
        await streams.create_resumable_reader("s", from_sequence=5)
    assert (caught.value.requested, caught.value.first_available, caught.value.code) == (5, first, "sequence_gap")
    assert not caught.value.retryable
    skipping = await streams.create_resumable_reader("s", from_sequence=5, on_gap="skip")
    assert sequences(await take(skipping, 101 - first)) == list(range(first, 101))
    edge = await streams.create_resumable_reader("s", from_sequence=first - 1)
    assert sequences(await take(edge, 101 - first)) == list(range(first, 101))
    reader = await streams.create_reader("s")
    assert reader is not None
    assert number_of(await reader.__anext__()) == first - 1, "a plain reader begins with what is kept"


async def test_chunks_trimmed_under_a_reader_are_a_gap(make_streams: MakeStreams) -> None:
    streams = make_streams(max_stream_length=25)
    writer = await streams.create_writer("s", "a")
    await writer.write_many(numbers(range(5)))
    strict = await streams.create_resumable_reader("s")
    tolerant = await streams.create_resumable_reader("s", on_gap="skip")
    await take(strict, 5)
    await take(tolerant, 5)
    for n in range(5, 1000):
        await writer.write(number(n))  # more than a slow reader holds, so both read the log
    with pytest.raises(SequenceGapError) as caught:
        await take(strict, 995)
    assert caught.value.requested == 5
    assert caught.value.first_available > 900
    found = sequences(await take(tolerant, 1))
    assert found[0] > 900
    assert sequences(await take(tolerant, 1000 - found[0])) == list(range(found[0] + 1, 1001))


async def test_a_position_of_another_epoch_is_told(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "a")
    await writer.write_many(numbers(range(5)))
    old = writer.epoch
    (one,) = await take(await streams.create_resumable_reader("s", epoch=old, from_sequence=3), 1)
    assert one.epoch == old
    assert (one.position.epoch, one.position.sequence) == (old, 4)
    new = await streams.reset_stream("s")
    assert new != old
    for options in ({"epoch": old, "from_sequence": 3}, {"from_sequence": 3}, {"epoch": old}):
        with pytest.raises(StreamResetError) as caught:
            await streams.create_resumable_reader("s", **options)
        assert (caught.value.current_epoch, caught.value.code) == (new, "stream_reset")
    writer = await streams.create_writer("s", "a")
    assert (writer.epoch, await writer.write(number(0))) == (new, 6)
    for after in (0, 5):
        reader = await streams.create_resumable_reader("s", from_sequence=after, epoch=new)
        assert sequences(await take(reader, 1)) == [6]


async def test_read_batch_gives_what_is_there_and_ends_empty(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "a")
    await writer.write_many(numbers(range(40)))
    reader = await streams.create_resumable_reader("s", from_sequence=10)
    assert reader is not None
    assert sequences(await reader.read_batch()) == list(range(11, 41))
    waiting = asyncio.ensure_future(reader.read_batch())
    await asyncio.sleep(0)
    await writer.write_many(numbers(range(3)))
    assert sequences(await asyncio.wait_for(waiting, 5)) == [41, 42, 43]
    await streams.end_stream("s")
    assert await asyncio.wait_for(reader.read_batch(), 5) == ()


async def test_a_closed_reader_ends_also_for_who_waits(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "a")
    await writer.write_many(numbers(range(3)))
    reader = await streams.create_resumable_reader("s")
    assert reader is not None
    assert (await reader.__anext__()).sequence == 1
    await reader.close()
    await reader.close()
    assert reader.position.sequence == 1
    with pytest.raises(StopAsyncIteration):
        await reader.__anext__()
    other = await streams.create_resumable_reader("s", from_sequence=3)
    assert other is not None
    waiting = asyncio.ensure_future(other.__anext__())
    await asyncio.sleep(0.02)
    await other.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)


def test_a_position_prints_and_parses() -> None:
    position = StreamPosition("hoev1cxy5c", 42)
    assert str(position) == "hoev1cxy5c:42"
    assert StreamPosition.parse(str(position)) == position
    assert StreamPosition.parse("hoev1cxy5c:42").term == ""
    whole = StreamPosition("hoev1cxy5c", 42, "1795390561897123q7xy")
    assert str(whole) == "hoev1cxy5c:1795390561897123q7xy:42"
    assert StreamPosition.parse(str(whole)) == whole != position
    assert tuple(whole) == ("hoev1cxy5c", 42) == whole
    huge = "e:" + "9" * 5000
    for bad in ("", "5", ":5", "e:", "e:-1", "e:x", "a:b:7", "e:5:7", "e: 5", "e:٣", "e:5 ", huge, None, b"e:5", 5):
        with pytest.raises(InvalidArgumentError):
            StreamPosition.parse(bad)  # type: ignore[arg-type]


async def test_a_second_task_that_reads_is_told_and_the_first_gets_every_chunk(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "agent")
    reader = await streams.create_resumable_reader("s")
    assert reader is not None
    first = asyncio.ensure_future(rest(reader))
    for _ in range(10):  # turns for the first task to begin its wait
        await asyncio.sleep(0)
    with pytest.raises(ReaderBusyError):
        await reader.__anext__()
    assert await writer.write_many(numbers(range(3))) == 3
    await streams.end_stream("s")
    assert sequences(await first) == [1, 2, 3]
    assert await rest(reader) == [], "free again"
