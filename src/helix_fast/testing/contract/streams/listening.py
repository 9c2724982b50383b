"""Presence: a live reader gets each chunk soon, in any process, whatever subscribers there were before it."""

from __future__ import annotations

import asyncio
import random

import pytest

from helix_fast.interfaces import ResumableReader, StreamManager
from helix_fast.testing.contract.chunk_helpers import number, rest, sequences, take
from helix_fast.testing.contract.fixtures import MakeStreams

SILENCE = 60_000  # ms: a reader that is not notified of a chunk would not find it within the test


@pytest.fixture
def here(make_streams: MakeStreams) -> StreamManager:
    return make_streams(block_timeout=SILENCE)


@pytest.fixture
def there(make_streams: MakeStreams) -> StreamManager:
    """A manager that is another process's for the store."""
    return make_streams(block_timeout=SILENCE)


async def reader_of(streams: StreamManager, after: int = 0) -> ResumableReader:
    reader = await streams.create_resumable_reader("s", from_sequence=after)
    assert reader is not None
    return reader


async def next_of(reader: ResumableReader) -> asyncio.Task[list[int]]:
    """A task that waits for the next chunk, and has begun to wait."""

    async def wait() -> list[int]:
        return sequences(await take(reader, 1))

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    return waiting


@pytest.mark.parametrize("listened", ["nobody", "here", "there"])
async def test_who_comes_late_gets_the_next_chunk(here: StreamManager, there: StreamManager, listened: str) -> None:
    before = {"here": here, "there": there}.get(listened)
    writer = await here.create_writer("s", "a")
    first = await reader_of(before) if before is not None else None
    for last in range(1, 40):
        waiting = await next_of(first) if first is not None else None
        await writer.write(number(last))
        assert waiting is None or await waiting == [last]
        if last % 5 == 0:
            late = await reader_of(there, last)
            waiting = await next_of(late)
            await asyncio.sleep(last / 1000)  # also while the writer does not know of it yet
            await writer.write(number(last + 1))
            assert await waiting == [last + 1]
            await late.close()
            await writer.write(number(last + 2))
            break
    else:
        raise AssertionError("nobody came late")


async def test_a_chunk_written_before_its_writer_knew_of_a_listener_arrives(
    here: StreamManager, there: StreamManager
) -> None:
    writer = await here.create_writer("s", "a")
    last = 0
    for pause in (0.0, 0.0, 0.001, 0.005, 0.01, 0.02, 0.03) * 3:
        last = await writer.write_many([number(last + n) for n in range(1, 4)])
        await asyncio.sleep(0.03)  # nobody listens, and that is known
        late = await reader_of(there, last)
        waiting = await next_of(late)
        await asyncio.sleep(pause)
        last = await writer.write(number(last + 1))
        assert await waiting == [last]  # and it was the last for now: nothing that follows tells of it
        await late.close()


async def test_a_writer_that_leaves_at_once_leaves_nobody_waiting(make_streams: MakeStreams) -> None:
    there = make_streams(block_timeout=SILENCE)
    last = 0
    for pause in (0.0, 0.001, 0.01):
        here = make_streams()
        writer = await here.create_writer("s", "a")
        last = await writer.write(number(last + 1))
        last = await writer.write(number(last + 1))
        waiting = await next_of(await reader_of(there, last))
        await asyncio.sleep(pause)
        last = await writer.write(number(last + 1))
        await here.close()
        assert await waiting == [last]


@pytest.mark.parametrize("seed", range(4))
async def test_listeners_everywhere_get_all_of_it_in_order(make_streams: MakeStreams, seed: int) -> None:
    managers = [make_streams(block_timeout=SILENCE) for _ in range(3)]
    dice = random.Random(seed)
    writers = [await dice.choice(managers).create_writer("s", "a") for _ in range(2)]
    writing = True

    async def write(index: int) -> None:
        for n in range(40):
            if dice.random() < 0.5:
                await writers[index].write(number(n))
            else:
                writers[index].send(number(n))
            await asyncio.sleep(dice.choice((0, 0.001, 0.025)))
        await writers[index].flush()

    async def come_and_go() -> int:
        """Read on and on, by a new reader each time; returns the last sequence."""
        last = 0
        while writing:
            reader = await reader_of(dice.choice(managers), last)
            for _ in range(dice.randrange(1, 12)):
                try:
                    found = await asyncio.wait_for(take(reader, 1), 0.2)
                except asyncio.TimeoutError:
                    break
                assert sequences(found) == [last + 1]
                last += 1
            await reader.close()
        return last

    guests = [asyncio.ensure_future(come_and_go()) for _ in range(4)]
    # No bound of their own: writing takes as long as the machine needs.
    stayers = [asyncio.ensure_future(rest(await reader_of(manager), seconds=None)) for manager in managers]
    await asyncio.gather(*(write(index) for index in range(2)))
    writing = False
    await asyncio.gather(*guests)
    await managers[0].end_stream("s")
    for found in await asyncio.wait_for(asyncio.gather(*stayers), 30):
        assert sequences(found) == list(range(1, 81))
