"""Fencing tokens: a larger one takes the stream over, the same one joins, a smaller one is refused."""

from __future__ import annotations

import asyncio

import pytest

from helix_fast import (
    HelixError,
    StaleFencingTokenError,
    StreamFencedError,
)
from helix_fast.interfaces import StreamManager
from helix_fast.testing.contract.chunk_helpers import number, number_of, numbers, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams
from helix_fast.testing.waiting import until


async def test_a_larger_token_takes_over_and_the_older_writer_is_refused(make_streams: MakeStreams) -> None:
    here, there = make_streams(), make_streams()
    errors: list[HelixError] = []
    here.on("error", errors.append)
    old = await here.create_writer("s", "old", fencing_token=5)
    await old.write_many(numbers(range(3)))
    new = await there.create_writer("s", "new", fencing_token=6)
    assert new.epoch == old.epoch, "a take-over is no reset"
    assert await new.write(number(3)) == 4
    old.send(number(100))
    old.send_text("101")
    with pytest.raises(StaleFencingTokenError) as caught:
        await old.flush()
    assert (caught.value.token, caught.value.current, caught.value.code) == (5, 6, "stale_fencing_token")
    assert not caught.value.retryable
    assert caught.value.unsent[0] == b'{"type":"number","n":100}'
    assert b'"delta":"101"' in caught.value.unsent[1]
    assert len(caught.value.unsent) == 2
    assert [type(error) for error in errors] == [StaleFencingTokenError]
    assert errors[0].unsent == caught.value.unsent  # type: ignore[attr-defined]
    for attempt in (old.write(number(102)), old.write_many(numbers([103]))):
        with pytest.raises(StaleFencingTokenError):
            await attempt
    with pytest.raises(StaleFencingTokenError):
        old.send(number(104))
    assert await new.write(number(4)) == 5
    found = await take(await here.create_resumable_reader("s"), 5)
    assert [number_of(one.chunk) for one in found] == list(range(5))
    assert sequences(found) == [1, 2, 3, 4, 5]


async def test_the_send_buffer_of_a_fenced_writer_is_reported_without_a_flush(make_streams: MakeStreams) -> None:
    here, there = make_streams(), make_streams()
    errors: list[HelixError] = []
    here.on("error", errors.append)
    old = await here.create_writer("s", "old", fencing_token=1)
    await there.create_writer("s", "new", fencing_token=2)
    waiting = asyncio.ensure_future(old.write(number(0)))
    await asyncio.sleep(0)
    old.send(number(1))
    await until(lambda: bool(errors), what="the report")
    with pytest.raises(StaleFencingTokenError) as caught:
        await waiting
    assert caught.value.unsent == (), "what an awaited write was given, that write was told"
    assert errors[0].unsent == (b'{"type":"number","n":1}',)  # type: ignore[attr-defined]
    with pytest.raises(StaleFencingTokenError):
        await old.close()


async def test_leaving_a_fenced_writer_raises_for_its_buffer(make_streams: MakeStreams) -> None:
    here, there = make_streams(), make_streams()
    old = await here.create_writer("s", "old", fencing_token=1)

    async def work() -> None:
        async with old:
            await there.create_writer("s", "new", fencing_token=2)
            old.send(number(1))

    with pytest.raises(StaleFencingTokenError) as caught:
        await work()
    assert caught.value.unsent == (b'{"type":"number","n":1}',)


async def test_the_same_token_joins(make_streams: MakeStreams) -> None:
    writers = [await make_streams().create_writer("s", "a", fencing_token=7) for _ in range(2)]
    assert [await writer.write(number(0)) for writer in writers * 2] == [1, 2, 3, 4]


async def test_a_smaller_token_is_refused_and_changes_nothing(streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "a", fencing_token=10)
    await writer.write(number(1))
    before = await streams.get_info("s")
    for token in (0, 9):
        attempts = (
            streams.create_writer("s", "b", fencing_token=token),
            streams.end_stream("s", fencing_token=token),
            streams.fail_stream("s", "e", fencing_token=token),
            streams.reset_stream("s", fencing_token=token),
        )
        for attempt in attempts:
            with pytest.raises(StaleFencingTokenError) as caught:
                await attempt
            assert (caught.value.token, caught.value.current) == (token, 10)
    assert await streams.get_info("s") == before
    assert await writer.write(number(2)) == 2


@pytest.mark.parametrize(("small", "large"), [(9, 10), (99, 100), (2**53, 2**53 + 1), (2**63 - 2, 2**63 - 1)])
async def test_tokens_are_compared_as_whole_numbers(make_streams: MakeStreams, small: int, large: int) -> None:
    streams = make_streams()
    old = await streams.create_writer("s", "a", fencing_token=small)
    new = await make_streams().create_writer("s", "b", fencing_token=large)
    assert await new.write(number(1)) == 1
    with pytest.raises(StaleFencingTokenError) as caught:
        await old.write(number(2))
    assert (caught.value.token, caught.value.current) == (small, large)
    with pytest.raises(StaleFencingTokenError):
        await streams.create_writer("s", "a", fencing_token=small)


async def test_a_first_token_takes_over_from_writers_without(make_streams: MakeStreams) -> None:
    old = await make_streams().create_writer("s", "a")
    await old.write(number(1))
    new = await make_streams().create_writer("s", "b", fencing_token=0)
    with pytest.raises(StreamFencedError) as caught:
        await old.write(number(2))
    assert caught.value.code == "stream_fenced"
    assert await new.write(number(2)) == 2


async def test_take_overs_in_one_process_part_the_writers(streams: StreamManager) -> None:
    old = await streams.create_writer("s", "a", fencing_token=1)
    await old.write(number(1))
    new = await streams.create_writer("s", "a", fencing_token=2)
    assert await new.write(number(2)) == 2
    with pytest.raises(StaleFencingTokenError):
        await old.write(number(3))
    assert await new.write(number(3)) == 3
    with pytest.raises(StaleFencingTokenError):
        await old.close()
    assert await (await streams.create_writer("s", "a", fencing_token=2)).write(number(4)) == 4


async def test_a_reset_keeps_the_token_seen(streams: StreamManager) -> None:
    await streams.create_writer("s", "a", fencing_token=5)
    await streams.reset_stream("s")
    with pytest.raises(StaleFencingTokenError):
        await streams.create_writer("s", "a", fencing_token=4)
    await streams.reset_stream("s", fencing_token=6)
    with pytest.raises(StaleFencingTokenError):
        await streams.create_writer("s", "a", fencing_token=5)
    assert await (await streams.create_writer("s", "a", fencing_token=6)).write(number(1)) == 1


async def test_readers_live_through_a_take_over(make_streams: MakeStreams) -> None:
    here, there = make_streams(block_timeout=60_000), make_streams(block_timeout=60_000)
    old = await here.create_writer("s", "a", fencing_token=1)
    await old.write(number(0))
    reader = await here.create_resumable_reader("s")
    assert sequences(await take(reader, 1)) == [1]
    for token in range(2, 8):
        async with await there.create_writer("s", "b", fencing_token=token) as new:
            last = await new.write_many(numbers(range(token)))
        assert sequences(await take(reader, token)) == list(range(last - token + 1, last + 1))
