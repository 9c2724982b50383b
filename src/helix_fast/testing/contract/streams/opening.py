"""Readers of streams that do not exist, or not yet; and ``read``, which opens with its first step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helix_fast import InvalidArgumentError, InvalidIdError, SequenceGapError, StreamNotFoundError, StreamResetError
from helix_fast.interfaces import StreamManager
from helix_fast.testing.contract.chunk_helpers import number, numbers, rest, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams

LONG = 60_000  # milliseconds: no test waits for so long


async def test_read_yields_what_follows_and_ends_with_the_stream(streams: StreamManager) -> None:
    async with await streams.create_writer("s", "a") as writer:
        await writer.write_many(numbers(range(300)))
    await streams.end_stream("s")
    found = [stored async for stored in streams.read("s", from_sequence=10)]
    assert sequences(found) == list(range(11, 301))
    async with streams.read("s", from_sequence=298) as reader:
        assert sequences(await reader.read_batch()) == [299, 300]
        assert await reader.read_batch() == ()
        assert reader.position == (found[0].epoch, 300)


async def test_read_of_no_stream_says_so_and_may_be_repeated(streams: StreamManager) -> None:
    reader = streams.read("s")
    assert reader.position.sequence == 0
    for _ in range(2):
        with pytest.raises(StreamNotFoundError) as caught:
            await reader.__anext__()
        assert caught.value.stream_id == "s"
    async with await streams.create_writer("s", "a") as writer:
        await writer.write(number(0))
    assert sequences(await take(reader, 1)) == [1]


async def test_read_tells_gaps_and_resets_as_other_readers_do(make_streams: MakeStreams) -> None:
    streams = make_streams(max_stream_length=10)
    writer = await streams.create_writer("s", "a")
    for n in range(100):
        await writer.write(number(n))
    strict = streams.read("s")
    for _ in range(2):
        with pytest.raises(SequenceGapError):
            await strict.__anext__()
    (first,) = await take(streams.read("s", on_gap="skip"), 1)
    assert first.sequence > 80
    new = await streams.reset_stream("s")
    with pytest.raises(StreamResetError) as caught:
        await take(streams.read("s", from_sequence=100, epoch=first.epoch), 1)
    assert caught.value.current_epoch == new


@pytest.mark.parametrize("turns", range(12))
async def test_first_step_that_was_cancelled_loses_nothing(streams: StreamManager, turns: int) -> None:
    writer = await streams.create_writer("s", "a")
    await writer.write_many(numbers(range(3)))
    reader = streams.read("s")
    waiting = asyncio.ensure_future(reader.__anext__())
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    found = [one for one in await asyncio.gather(waiting, return_exceptions=True) if not isinstance(one, BaseException)]
    await streams.end_stream("s")
    assert sequences([*found, *await rest(reader)]) == [1, 2, 3]


@pytest.mark.parametrize("how", ["read", "create_reader", "create_resumable_reader"])
async def test_reader_waits_for_its_stream(make_streams: MakeStreams, how: str) -> None:
    here, there = make_streams(block_timeout=LONG), make_streams(block_timeout=LONG)

    async def first(streams: StreamManager) -> Any:
        reader: Any = getattr(streams, how)("s", wait_ms=LONG)
        reader = reader if how == "read" else await reader
        assert reader is not None
        async with reader:
            return await reader.__anext__()

    waiting = [asyncio.ensure_future(first(streams)) for streams in (here, there)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in waiting)
    async with await there.create_writer("s", "a") as writer:
        await writer.write(number(0))
        for task in waiting:
            assert await asyncio.wait_for(task, 10)


async def test_reader_that_waited_in_vain_has_nothing(streams: StreamManager) -> None:
    assert await streams.create_reader("s", wait_ms=30) is None
    assert await streams.create_resumable_reader("s", wait_ms=30) is None
    with pytest.raises(StreamNotFoundError):
        await take(streams.read("s", wait_ms=30), 1)


async def test_created_stream_without_chunks_ends_the_waiting(make_streams: MakeStreams) -> None:
    here, there = make_streams(), make_streams()
    waiting = asyncio.ensure_future(here.create_resumable_reader("s", wait_ms=LONG))
    await asyncio.sleep(0.01)
    await there.create_writer("s", "a")
    reader = await asyncio.wait_for(waiting, 10)
    await there.end_stream("s")
    assert await rest(reader) == []


async def test_reader_that_is_closed_while_it_waits_ends(streams: StreamManager) -> None:
    reader = streams.read("s", wait_ms=LONG)
    waiting = asyncio.ensure_future(reader.__anext__())
    await asyncio.sleep(0.02)
    await reader.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 10)


async def test_stream_exists_from_its_creation_to_its_deletion(streams: StreamManager) -> None:
    assert not await streams.exists("s")
    await streams.create_writer("s", "a")
    assert await streams.exists("s")
    await streams.end_stream("s")
    assert await streams.exists("s")
    await streams.delete_stream("s")
    assert not await streams.exists("s")
    with pytest.raises(InvalidIdError):
        await streams.exists("a{b}")


@pytest.mark.parametrize(
    "options",
    [{"wait_ms": -1}, {"wait_ms": "5"}, {"wait_ms": float("inf")}, {"on_gap": "?"}, {"from_sequence": -1}],
    ids=repr,
)
async def test_reading_options_that_make_no_sense_are_refused(streams: StreamManager, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        streams.read("s", **options)
    with pytest.raises(InvalidIdError):
        streams.read("")
