"""A server's history that forks, one fault a test: the server is set back in place, and its clock with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from helix_fast.errors import AcknowledgedDataLostError, ProducerLostError, SequenceGapError
from helix_fast.memory import MemoryServer
from helix_fast.memory.keyspace import CommandError
from helix_fast.streams.schema import StoredChunk, StreamPosition
from helix_fast.testing.waiting import until
from tests.support.streams_under_fault import StreamStore, collect_errors, delta, follow, text

pytestmark = pytest.mark.faults
KEY = "helix:stream:{s}"


class Fork:
    """A server with a clock, and stores on it as other processes have them."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.server = MemoryServer(lambda: self.now)
        self._stores: list[StreamStore] = []

    def store(self, **options: Any) -> StreamStore:
        store = StreamStore(topology=self.server.topology(), **{"block_timeout": 50, **options})
        self._stores.append(store)
        return store

    def back_to(self, snapshot: Any, *, seconds: float = 0.0) -> None:
        self.now += seconds
        self.server.restore(snapshot, new_history=True)

    def marks(self) -> list[bytes]:
        entries = self.server.execute("XRANGE", KEY, "-", "+")
        return [dict(zip(e[::2], e[1::2], strict=True))[b"event"] for _id, e in entries if b"event" in e[::2]]

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.fixture
async def fork() -> AsyncIterator[Fork]:
    made = Fork()
    yield made
    await made.close()


def lost(errors: list[Any]) -> list[tuple[int, int]]:
    """The ranges that were reported."""
    assert all(isinstance(error, AcknowledgedDataLostError) for error in errors), errors
    return [(error.first, error.last) for error in errors]


async def names(store: StreamStore) -> list[tuple[int, str]]:
    """The log, over its holes."""
    found: list[tuple[int, str]] = []
    reader = await store.create_resumable_reader("s", on_gap="skip")
    assert reader is not None
    async with reader:
        with contextlib.suppress(asyncio.TimeoutError):
            while True:
                stored = await asyncio.wait_for(reader.__anext__(), 0.1)
                found.append((stored.sequence, delta(stored.chunk)))
    return found


CLOCKS = pytest.mark.parametrize("seconds", [0.0, -3600.0, 60.0], ids=["same clock", "clock behind", "clock ahead"])


@CLOCKS
async def test_writers_that_collide_are_told_what_each_has_lost(fork: Fork, seconds: float) -> None:
    stores = [fork.store(), fork.store()]
    errors = [collect_errors(store) for store in stores]
    writers = [await store.create_writer("s", "agent") for store in stores]
    acknowledged: list[dict[int, str]] = [{}, {}]

    async def write(who: int, name: str) -> None:
        acknowledged[who][await writers[who].write(text(name))] = name

    for n in range(5):
        await asyncio.gather(write(0, f"a{n}"), write(1, f"b{n}"))
    for writer in writers:
        writer._appender.assisted_batches = 64  # as after refusals in a row: the server assigns their sequences
    saved = fork.server.snapshot()
    for n in range(20):
        await asyncio.gather(write(0, f"lost a{n}"), write(1, f"lost b{n}"))
    doomed = [{s for s, name in acks.items() if name.startswith("lost")} for acks in acknowledged]
    fork.back_to(saved, seconds=seconds)
    for n in range(20):
        await asyncio.gather(write(0, f"new a{n}"), write(1, f"new b{n}"))
    for who in (0, 1):
        told = {n for first, last in lost(errors[who]) for n in range(first, last + 1)}
        assert told == doomed[who]
    log = dict(await names(stores[0]))
    for acks, gone in zip(acknowledged, doomed, strict=True):
        assert {s: name for s, name in acks.items() if s not in gone}.items() <= log.items()
    assert not set(log) & (doomed[0] | doomed[1]), "a sequence has two meanings"


@CLOCKS
@pytest.mark.parametrize("writes", [True, False], ids=["writes", "stays quiet"])
async def test_loss_shows_though_another_has_written_past_it(fork: Fork, seconds: float, writes: bool) -> None:
    quiet, busy = fork.store(), fork.store()
    told, others = collect_errors(quiet), collect_errors(busy)
    first = await quiet.create_writer("s", "quiet")
    second = await busy.create_writer("s", "busy")
    await second.write(text("kept"))
    saved = fork.server.snapshot()
    assert await first.write_many([text(f"lost {n}") for n in range(5)]) == 6
    fork.back_to(saved, seconds=seconds)
    for n in range(10):
        await second.write(text(f"new {n}"))
    if writes:
        await first.write(text("back"))
    await until(lambda: bool(told))
    assert (lost(told), others) == ([(2, 6)], [])


async def test_late_batch_of_the_lost_branch_is_refused(fork: Fork) -> None:
    """The id check compares first sequences alone: 23 would fit behind a batch that begins with 21 and ends with 25."""
    store = fork.store()
    collect_errors(store)
    writer = await store.create_writer("s", "agent")
    await writer.write_many([text(n) for n in range(20)])
    saved = fork.server.snapshot()
    await writer.write_many([text("lost"), text("lost")])
    term = fork.server.execute("HGET", KEY + ":meta", "term").decode()
    fork.back_to(saved, seconds=-3600)
    assert await writer.write_many([text(f"new {n}") for n in range(5)]) == 27
    late = ("chunk", '{"type":"text_delta","delta":"late"}', "sequence", 23, "writer", "latelate")
    with pytest.raises(CommandError, match="equal or smaller"):
        fork.server.execute("XADD", KEY, "NOMKSTREAM", f"{term}-23", *late)


async def test_loss_is_named_whole_where_several_readers_come_back_first(fork: Fork) -> None:
    store = fork.store()
    told = collect_errors(store)
    writer = await store.create_writer("s", "agent")
    await writer.write_many([text(n) for n in range(10)])
    saved = fork.server.snapshot()
    readers = []
    for n in range(4):
        await writer.write_many([text(f"lost {n}")] * 5)
        place = await follow(fork.store(), "s", from_sequence=0)
        await until(lambda place=place, n=n: len(place.chunks) == 15 + 5 * n)  # type: ignore[misc]
        if n < 2:
            await place.stop()  # this one resumes later, where it was
        readers.append(place)
    fork.back_to(saved)
    await asyncio.gather(*(one.task for one in readers[2:]))
    for one in readers[2:]:
        assert isinstance(one.error, SequenceGapError)
        assert (one.error.requested, one.error.first_available) == (30, 11)
    await writer.write(text("new"))
    assert lost(told) == [(11, 30)]
    for one in readers[:2]:
        with pytest.raises(SequenceGapError) as gap:
            await store.create_resumable_reader("s", from_sequence=one.chunks[-1].position)
        assert (gap.value.requested, gap.value.first_available) == (len(one.chunks), 11)
    assert [sequence for sequence, _name in await names(store)] == [*range(1, 11), 31]


Resume = Callable[[StreamStore, Any], Awaitable[object]]


async def resuming(store: StreamStore, place: Any) -> object:
    return await store.create_resumable_reader("s", from_sequence=place)


async def reading(store: StreamStore, place: Any) -> object:
    return await store.read("s", from_sequence=place).__anext__()


async def storing(store: StreamStore, place: Any) -> object:
    return await store.read_from("s", place)


async def subscribing(store: StreamStore, place: Any) -> object:
    errors, got = collect_errors(store), list[Any]()
    await store.subscribe("s", lambda *chunk: got.append(chunk), from_sequence=place)
    assert not got
    raise errors[-1]


@pytest.mark.parametrize("way", [resuming, reading, storing, subscribing])
@pytest.mark.parametrize("form", ["int", "digits", "epoch:sequence", "position", "text"])
async def test_position_ahead_of_the_log_is_a_gap(fork: Fork, way: Resume, form: str) -> None:
    store = fork.store()
    writer = await store.create_writer("s", "agent")
    await writer.write_many([text(n) for n in range(5)])
    last: StoredChunk = (await store.read_from("s"))[-1]
    ahead: Any = {
        "int": 10,
        "digits": "10",
        "epoch:sequence": f"{last.epoch}:10",
        "position": StreamPosition(last.epoch, 10, last.term),
        "text": str(StreamPosition(last.epoch, 10, last.term)),
    }[form]
    with pytest.raises(SequenceGapError) as gap:
        await way(store, ahead)
    assert (gap.value.requested, gap.value.first_available, gap.value.last_available) == (10, 6, 5)


@pytest.mark.parametrize("way", [resuming, reading, storing, subscribing])
@CLOCKS
async def test_position_on_a_lost_branch_is_a_gap_though_the_log_is_longer_now(
    fork: Fork, way: Resume, seconds: float
) -> None:
    dead, store, other = fork.store(), fork.store(), fork.store()
    writer = await dead.create_writer("s", "agent")
    await writer.write_many([text(n) for n in range(5)])
    saved = fork.server.snapshot()
    await writer.write_many([text(f"lost {n}") for n in range(5)])
    place = (await dead.read_from("s"))[-1].position
    await dead.close()
    fork.back_to(saved, seconds=seconds)
    another = await other.create_writer("s", "another")
    await another.write_many([text(f"new {n}") for n in range(9)])
    for form in (place, str(place)):
        with pytest.raises(SequenceGapError) as gap:
            await way(store, form)
        assert (gap.value.requested, gap.value.first_available, gap.value.last_available) == (10, 6, 14)
    skipping = await store.create_resumable_reader("s", from_sequence=place, on_gap="skip")
    assert skipping is not None
    assert delta((await skipping.__anext__()).chunk) == "new 0"


@CLOCKS
async def test_live_reader_does_not_walk_from_a_lost_branch_into_the_new_one(fork: Fork, seconds: float) -> None:
    store, other = fork.store(), fork.store()
    collect_errors(store)
    writer = await store.create_writer("s", "agent")
    await writer.write_many([text(n) for n in range(5)])
    saved = fork.server.snapshot()
    live = await follow(fork.store(block_timeout=60_000), "s")
    await writer.write_many([text(f"lost {n}") for n in range(5)])
    await until(lambda: len(live.chunks) == 10)
    fork.back_to(saved, seconds=seconds)
    another = await other.create_writer("s", "another")
    await another.write_many([text(f"new {n}") for n in range(9)])
    await asyncio.wait_for(live.task, 20)
    assert isinstance(live.error, SequenceGapError)
    assert (live.error.requested, live.error.first_available, len(live.chunks)) == (10, 6, 10)


# a position alone does not tell what came before its term: it is believed to be older than the terms above its number
@pytest.mark.parametrize(("way", "seconds"), [("live", 0.0), ("live", -3600.0), ("live", 60.0), ("resuming", 60.0)])
async def test_reader_of_a_term_that_is_lost_whole_goes_back_to_where_the_branches_part(
    fork: Fork, seconds: float, way: str
) -> None:
    dead, other = fork.store(), fork.store()
    writer = await dead.create_writer("s", "agent", fencing_token=1)
    await writer.write_many([text(n) for n in range(5)])
    saved = fork.server.snapshot()
    takeover = await dead.create_writer("s", "agent", fencing_token=2)
    await takeover.write_many([text(f"lost {n}") for n in range(5)])
    watching = fork.store()
    live = await follow(watching, "s", on_gap="skip")
    await until(lambda: len(live.chunks) == 10)
    await dead.close()
    if way == "resuming":
        await live.stop()
    fork.back_to(saved, seconds=seconds)
    another = await other.create_writer("s", "another")
    await another.write_many([text(f"new {n}") for n in range(9)])
    if way == "resuming":
        live = await follow(watching, "s", on_gap="skip", from_sequence=live.chunks[-1].position)
    await other.end_stream("s")
    await asyncio.wait_for(live.task, 20)
    assert [delta(stored.chunk) for stored in live.chunks][-9:] == [f"new {n}" for n in range(9)]


@CLOCKS
async def test_new_process_may_come_before_the_old_writer(fork: Fork, seconds: float) -> None:
    old, new = fork.store(), fork.store()
    told, others = collect_errors(old), collect_errors(new)
    writer = await old.create_writer("s", "old")
    await writer.write(text("kept"))
    saved = fork.server.snapshot()
    await writer.write_many([text("lost"), text("lost too")])
    place = (await old.read_from("s"))[-1].position
    fork.back_to(saved, seconds=seconds)
    async with await new.create_writer("s", "new") as newer:
        assert await newer.write(text("new")) == 2, "it cannot know what was lost"
    await writer.write(text("old again"))
    assert (lost(told), others) == ([(2, 3)], [])
    assert [name for _sequence, name in await names(new)] == ["kept", "new", "old again"]
    with pytest.raises(SequenceGapError):
        await new.create_resumable_reader("s", from_sequence=place)


async def test_loss_is_told_after_the_writer_was_closed(fork: Fork) -> None:
    store = fork.store()
    told = collect_errors(store)
    keep_connected = await store.create_writer("other", "agent")
    async with await store.create_writer("s", "agent") as writer:
        await writer.write(text("kept"))
        saved = fork.server.snapshot()
        await writer.write(text("lost"))
    fork.back_to(saved)
    await until(lambda: bool(told))
    assert lost(told) == [(2, 2)]
    await keep_connected.close()


async def test_a_reader_goes_on_behind_a_gap_that_nothing_follows_yet(fork: Fork) -> None:
    writer = await fork.store().create_writer("s", "a")
    for number in range(1, 5):
        await writer.write(text(number))
    snapshot = fork.server.snapshot()
    await writer.write_many([text(number) for number in range(5, 21)])
    fork.back_to(snapshot)
    await until(lambda: b"history" in fork.marks(), what="a term of the new history")
    readers = fork.store()
    with pytest.raises(SequenceGapError) as gap:
        await readers.create_resumable_reader("s", from_sequence=4)
    assert gap.value.first_available == 21
    reader = await readers.create_resumable_reader("s", from_sequence=20)
    assert reader is not None
    waiting = asyncio.ensure_future(reader.__anext__())
    await asyncio.sleep(0.2)  # it looks at the log every 50 ms
    assert await writer.write(text(21)) == 21
    assert (await waiting).sequence == 21
    await writer.end()
    last = await readers.create_resumable_reader("s", from_sequence=21)
    assert last is not None
    assert await last.read_batch() == ()


async def test_benign_restart_costs_one_marker_and_nobody_an_error(fork: Fork) -> None:
    store, other = fork.store(), fork.store()
    errors = [collect_errors(store), collect_errors(other)]
    writers = [await each.create_writer("s", "agent", lease_ms=60_000) for each in (store, other)]
    live = await follow(fork.store(), "s")
    for turn in range(3):
        for writer in writers:
            await writer.write(text(turn))
        if turn < 2:
            fork.back_to(fork.server.snapshot())
    await store.end_stream("s")
    assert await live.done() == ["0", "0", "1", "1", "2", "2"]
    assert (errors, fork.marks()) == ([[], []], [b"open", b"history", b"history", b"ended"])


async def test_lease_of_a_restored_server_runs_anew(fork: Fork) -> None:
    """A snapshot holds a lease that is old already: nobody counts as lost before one lease has passed."""
    store = fork.store()
    await store.create_writer("s", "agent", lease_ms=10_000)
    saved = fork.server.snapshot()
    await store.close()
    fork.back_to(saved, seconds=3600)
    other = fork.store()
    reader = await other.create_reader("s")
    assert reader is not None
    waiting = asyncio.ensure_future(reader.__anext__())
    await asyncio.sleep(0.3)  # it looks several times
    assert not waiting.done()

    async def pass_time() -> None:
        while True:
            fork.now += 1
            await asyncio.sleep(0.02)

    passing = asyncio.ensure_future(pass_time())
    with pytest.raises(ProducerLostError):
        await asyncio.wait_for(waiting, 20)
    passing.cancel()


async def test_history_that_changes_behind_a_connection_that_stays_is_not_noticed(fork: Fork) -> None:
    """A proxy that fails over and keeps its clients: nothing on the way of a chunk asks which server answers."""
    store = fork.store()
    told = collect_errors(store)
    writer = await store.create_writer("s", "agent")
    await writer.write(text(1))
    saved = fork.server.snapshot()
    await writer.write(text("lost"))
    fork.server.restore(saved, new_history=True, keep_connections=True)
    assert await writer.write(text(3)) == 3
    assert told == []
    assert await names(store) == [(1, "1"), (3, "3")], "readers still meet the hole"
