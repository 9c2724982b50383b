"""A server that comes back with less than it had acknowledged: said aloud, and never papered over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helix_fast.errors import (
    AcknowledgedDataLostError,
    SequenceGapError,
    StoreResponseError,
    StreamDeletedError,
    StreamResetError,
)
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.streams_under_fault import collect_errors, delta, follow, storage, text

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]


@pytest.fixture
async def saving_server(short_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that saves when it is told to, and finds that again when it is started."""
    server = ServerProcess(short_path, options={"dbfilename": "dump.rdb"})
    await server.start()
    yield server
    await server.stop()


async def crash_and_come_back(server: ServerProcess) -> None:
    server.kill()
    await server.start()


async def test_open_writer_reports_the_lost_range_and_goes_on_behind_it(saving_server: ServerProcess) -> None:
    async with storage(saving_server.url, block_timeout=300) as store:
        errors = collect_errors(store)
        writer = await store.create_writer("s", "agent")
        live = await follow(store, "s")
        for n in range(1, 11):
            assert await writer.write(text(n)) == n
        assert saving_server.ask(b"SAVE") == b"+OK\r\n"
        for n in range(11, 26):
            assert await writer.write(text(n)) == n
        await until(lambda: len(live.chunks) == 25)
        await crash_and_come_back(saving_server)

        assert await writer.write(text(26)) == 26
        lost = [error for error in errors if isinstance(error, AcknowledgedDataLostError)]
        assert [(error.first, error.last, error.stream_id) for error in lost] == [(11, 25, "s")]
        assert await writer.write_many([text(27), text(28)]) == 28

        # one that had seen what is lost is told, as is one that comes later; its position is refused for ever
        assert await live.done() == [str(n) for n in range(1, 26)]
        assert isinstance(live.error, SequenceGapError)
        assert (live.error.requested, live.error.first_available) == (25, 11)
        lost_place = live.chunks[-1].position
        for place in (lost_place, str(lost_place)):
            with pytest.raises(SequenceGapError) as gap:
                await store.create_resumable_reader("s", from_sequence=place)
            assert (gap.value.requested, gap.value.first_available, gap.value.last_available) == (25, 11, 28)
        live = await follow(store, "s", from_sequence=lost_place, on_gap="skip")
        late = await store.create_resumable_reader("s")
        assert late is not None
        for n in range(1, 11):
            assert delta((await late.__anext__()).chunk) == str(n)
        for _ in range(2):
            with pytest.raises(SequenceGapError) as gap:
                await late.__anext__()
            assert (gap.value.requested, gap.value.first_available) == (10, 26)
        with pytest.raises(SequenceGapError):
            await store.read_from("s", 12)
        skipping = await store.create_resumable_reader("s", from_sequence=9, on_gap="skip")
        assert skipping is not None
        assert [(await skipping.__anext__()).sequence for _ in range(4)] == [10, 26, 27, 28]
        await store.end_stream("s")
        await asyncio.wait_for(live.task, 10)
        assert [stored.sequence for stored in live.chunks] == [26, 27, 28]
        assert len([error for error in errors if isinstance(error, AcknowledgedDataLostError)]) == 1


async def test_new_process_does_not_give_away_sequences_that_a_live_reader_has_seen(
    saving_server: ServerProcess,
) -> None:
    async with storage(saving_server.url, block_timeout=200) as old, storage(saving_server.url) as new:
        collect_errors(old)
        writer = await old.create_writer("s", "agent")
        live = await follow(old, "s")
        await writer.write(text(1))
        assert saving_server.ask(b"SAVE") == b"+OK\r\n"
        for n in range(2, 6):
            await writer.write(text(n))
        await until(lambda: len(live.chunks) == 5)
        await crash_and_come_back(saving_server)
        assert await new.get_info("s") is not None
        # the reader comes back by itself, and begins a term behind what is missing
        await until(lambda: b"history" in saving_server.ask(b"XREVRANGE helix:stream:{s} + - COUNT 1"))

        other = await new.create_writer("s", "another")
        assert await other.write(text(6)) == 6
        await new.end_stream("s")
        assert await live.done() == [str(n) for n in range(1, 6)]
        assert isinstance(live.error, SequenceGapError)
        assert (live.error.requested, live.error.first_available) == (5, 2)
        late = await new.create_resumable_reader("s")
        assert late is not None
        assert (await late.__anext__()).sequence == 1
        with pytest.raises(SequenceGapError) as gap:
            await late.__anext__()
        assert (gap.value.requested, gap.value.first_available) == (1, 6)


async def test_live_reader_that_was_behind_meets_the_gap(saving_server: ServerProcess) -> None:
    async with storage(saving_server.url, block_timeout=300) as store:
        collect_errors(store)
        writer = await store.create_writer("s", "agent")
        behind = await store.create_resumable_reader("s")
        assert behind is not None
        await writer.write(text(1))
        assert (await behind.__anext__()).sequence == 1
        assert saving_server.ask(b"SAVE") == b"+OK\r\n"
        await behind.close()
        position = behind.position
        await writer.write_many([text(2), text(3)])
        await crash_and_come_back(saving_server)
        await writer.write(text(4))
        with pytest.raises(SequenceGapError) as gap:
            await store.create_resumable_reader("s", from_sequence=position.sequence, epoch=position.epoch)
        assert (gap.value.requested, gap.value.first_available) == (1, 4)


async def test_loss_is_told_once_though_the_way_breaks_again_before_anything_is_stored(
    saving_server: ServerProcess,
) -> None:
    async with storage(saving_server.url, retry_timeout=0.2) as store:
        errors = collect_errors(store)
        writer = await store.create_writer("s", "agent")
        await writer.write(text(1))
        assert saving_server.ask(b"SAVE") == b"+OK\r\n"
        await writer.write(text(2))
        await crash_and_come_back(saving_server)
        assert saving_server.ask(b"CONFIG SET maxmemory 1") == b"+OK\r\n"
        chunk = text(3)
        for _ in range(3):
            with pytest.raises(Exception, match="OOM"):
                await writer.write(chunk)
        assert saving_server.ask(b"CONFIG SET maxmemory 0") == b"+OK\r\n"
        assert await writer.write(chunk) == 3
        assert [type(error) for error in errors] == [AcknowledgedDataLostError]


async def test_unacknowledged_batch_of_before_the_crash_is_stored_behind_the_hole(saving_server: ServerProcess) -> None:
    async with storage(saving_server.url) as store:
        errors = collect_errors(store)
        writer = await store.create_writer("s", "agent")
        await writer.write(text(1))
        assert saving_server.ask(b"SAVE") == b"+OK\r\n"
        await writer.write(text(2))
        saving_server.pause()
        writer.send_text("3")
        flush = writer.flush()
        await crash_and_come_back(saving_server)
        await flush
        assert [stored.sequence for stored in await store.read_from("s", 2)] == [3]
        assert [(type(error), error.first, error.last) for error in errors] == [(AcknowledgedDataLostError, 2, 2)]  # type: ignore[attr-defined]


async def test_what_the_server_refused_for_good_is_not_stored_later(saving_server: ServerProcess) -> None:
    async with storage(saving_server.url, retry_timeout=0.2) as store:
        writer = await store.create_writer("s", "agent")
        await writer.write(text(1))
        assert saving_server.ask(b"CONFIG SET maxmemory 1") == b"+OK\r\n"
        with pytest.raises(StoreResponseError, match="OOM"):
            await writer.write(text("refused"))
        assert saving_server.ask(b"CONFIG SET maxmemory 0") == b"+OK\r\n"
        assert await writer.write(text(2)) == 2
        assert [delta(stored.chunk) for stored in await store.read_from("s")] == ["1", "2"]


@pytest.mark.parametrize("closed", [True, False])
async def test_stream_that_another_began_anew_on_an_emptied_server_hides_no_loss(
    fresh_server: ServerProcess, closed: bool
) -> None:
    async with storage(fresh_server.url) as mine, storage(fresh_server.url) as others:
        errors = collect_errors(mine)
        writer = await mine.create_writer("s", "agent")
        await writer.write_many([text(n) for n in range(3)])
        if closed:
            await writer.close()
        await crash_and_come_back(fresh_server)
        anew = await others.create_writer("s", "other")
        await anew.write_many([text(f"other {n}") for n in range(5)])
        if closed:
            assert await (await mine.create_writer("s", "agent")).write(text(3)) == 6
        else:
            with pytest.raises((StreamResetError, StreamDeletedError)):  # it may have looked before the other began it
                await writer.write(text(3))
        lost = [(error.first, error.last) for error in errors if isinstance(error, AcknowledgedDataLostError)]
        assert lost == [(1, 3)]


@pytest.mark.parametrize("reset", [True, False])
async def test_stream_that_was_reset_or_made_again_on_purpose_is_no_loss(
    saving_server: ServerProcess, reset: bool
) -> None:
    async with storage(saving_server.url) as mine, storage(saving_server.url) as others:
        errors = collect_errors(mine)
        writer = await mine.create_writer("s", "agent")
        await writer.write_many([text(n) for n in range(3)])
        await writer.close()
        if reset:  # also by a server with another history
            assert saving_server.ask(b"SAVE") == b"+OK\r\n"
            await crash_and_come_back(saving_server)
            await others.reset_stream("s")
        else:
            await others.delete_stream("s")
        await (await others.create_writer("s", "other")).write(text("other"))
        await (await mine.create_writer("s", "agent")).write(text(3))
        assert errors == []
