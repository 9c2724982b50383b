"""The write buffer without a server: no chunk is lost, doubled or reordered, whatever becomes of its batches."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from helix_fast.codec import Write
from helix_fast.errors import StoreConnectionError
from helix_fast.streams.write_buffer import MAX_BATCH_CHUNKS, WriteBuffer

LOST = StoreConnectionError("lost")


class Future:
    """What a write or a flush waits for."""

    def __init__(self) -> None:
        self.result: Any = None

    def done(self) -> bool:
        return self.result is not None

    def set_result(self, result: Any) -> None:
        assert self.result is None
        self.result = True if result is None else result

    def set_exception(self, error: Exception) -> None:
        assert self.result is None
        self.result = error


def written(count: int) -> Write:
    future: Any = Future()
    return Write("original", count, future)


def stored(buffer: WriteBuffer) -> list[bytes]:
    """Have the next batch stored; its chunks."""
    batch = buffer.next_batch()
    assert batch is not None
    batch.first = buffer.sequence.reserve(batch.count)
    buffer.sequence.commit()
    buffer.acknowledge()
    return batch.body.split(b"\n")


def test_one_batch_is_in_flight_while_the_next_one_gathers() -> None:
    buffer = WriteBuffer(7)
    assert buffer.empty
    assert buffer.next_batch() is None
    buffer.add(b"1")
    first = buffer.next_batch()
    assert first is not None
    buffer.add(b"2")
    buffer.add(b"3")
    assert buffer.next_batch() is first
    assert (buffer.chunks, buffer.size, buffer.empty) == (3, 4, False)
    assert stored(buffer) == [b"1"]
    assert stored(buffer) == [b"2", b"3"]
    assert (buffer.empty, buffer.size, buffer.sequence.last) == (True, 0, 10)


def test_a_batch_is_closed_when_it_is_full() -> None:
    buffer = WriteBuffer(0)
    buffer.add(b"x" * 70_000)
    buffer.add(b"1")
    assert [batch.count for batch in buffer.batches] == [1]
    assert WriteBuffer(0, 10_000).max_count == 400
    assert WriteBuffer(0, 10).max_count == 1
    assert WriteBuffer(0, 10_000_000).max_count == MAX_BATCH_CHUNKS


def test_a_write_of_several_batches_is_settled_with_its_last() -> None:
    buffer = WriteBuffer(0, 50)  # two chunks a batch
    write = written(5)
    buffer.add(b"0")
    buffer.add_awaited(write, [b"%d" % n for n in range(1, 6)])
    assert [stored(buffer), stored(buffer)] == [[b"0", b"1"], [b"2", b"3"]]
    assert (write.acked, write.future.done()) == (3, False)
    assert stored(buffer) == [b"4", b"5"]
    result: Any = write.future.result
    assert result == 6


def test_a_flush_waits_for_what_was_there_and_no_longer() -> None:
    buffer, flush = WriteBuffer(0, 25), Future()
    buffer.add(b"1")
    buffer.next_batch()
    buffer.add(b"2")
    buffer.add_flush(flush)  # type: ignore[arg-type]
    buffer.add(b"3")
    stored(buffer)
    assert not flush.done()
    stored(buffer)
    assert flush.result is True
    assert not buffer.fail_flushes(LOST)


def test_withdrawing_takes_awaited_chunks_that_were_never_sent() -> None:
    buffer = WriteBuffer(0)
    flying, behind = written(1), written(2)
    buffer.add_awaited(flying, [b"a"])
    buffer.next_batch()
    buffer.add(b"sent 1")
    buffer.add_awaited(behind, [b"b", b"c"])
    buffer.add(b"sent 2")
    assert not buffer.has_unawaited
    assert {id(write) for write in buffer.withdraw_unsent()} == {id(flying), id(behind)}
    assert (flying.lost, behind.lost) == (0, 2)
    assert buffer.has_unawaited
    assert stored(buffer) == [b"a"]
    assert stored(buffer) == [b"sent 1", b"sent 2"]
    assert buffer.empty


def test_a_retried_write_waits_for_the_batch_in_flight() -> None:
    buffer = WriteBuffer(0)
    before, write = written(1), written(1)
    buffer.add_awaited(before, [b"a"])
    buffer.next_batch()
    before.fail(LOST)
    buffer.replace(before, write)
    stored(buffer)
    assert write.acked == 1
    assert before.acked == 0


def test_giving_up_fails_the_batch_in_flight_alone() -> None:
    buffer, flush = WriteBuffer(0), Future()
    lost, kept = written(1), written(1)
    buffer.add_awaited(lost, [b"a"])
    buffer.next_batch()
    buffer.add_awaited(kept, [b"b"])
    buffer.add_flush(flush)  # type: ignore[arg-type]
    assert buffer.give_up(LOST).body == b"a"
    assert (lost.future.done(), kept.future.done(), flush.done()) == (True, False, False)
    assert buffer.fail_flushes(LOST)
    assert flush.result is LOST
    assert stored(buffer) == [b"b"]


def test_clearing_remembers_that_chunks_were_discarded() -> None:
    buffer = WriteBuffer(0)
    buffer.add(b"1")
    buffer.next_batch()
    buffer.add(b"2")
    assert [batch.body for batch in buffer.clear()] == [b"1", b"2"]
    assert (buffer.empty, buffer.discarded) == (True, 2)


class Buffering(RuleBasedStateMachine):
    """Any sequence of calls. The model: the chunks that are to be stored, in order, and what each write waits for."""

    @initialize(last=st.integers(0, 2**40), length=st.sampled_from([0, 25, 75, 1000]))
    def begin(self, last: int, length: int) -> None:
        self.buffer = WriteBuffer(last, length)
        self.expected: list[tuple[bytes, Write | None]] = []  # not acknowledged
        self.log: dict[int, bytes] = {}
        self.writes: list[tuple[Write, list[bytes]]] = []
        self.flushes: list[tuple[Future, set[bytes]]] = []
        self.number = 0

    def chunks(self, count: int) -> list[bytes]:
        self.number += count
        return [b'{"n":%d}' % n for n in range(self.number - count, self.number)]

    @rule()
    def send(self) -> None:
        (chunk,) = self.chunks(1)
        self.buffer.add(chunk)
        self.expected.append((chunk, None))

    @rule(count=st.integers(1, 9))
    def write(self, count: int) -> None:
        chunks, write = self.chunks(count), written(count)
        self.buffer.add_awaited(write, chunks)
        self.writes.append((write, chunks))
        self.expected += [(chunk, write) for chunk in chunks]

    @rule()
    def flush(self) -> None:
        future: Any = Future()
        if not self.buffer.empty:
            self.buffer.add_flush(future)
            self.flushes.append((future, {chunk for chunk, _write in self.expected}))

    @rule()
    def take(self) -> None:
        self.buffer.next_batch()

    @precondition(lambda self: self.buffer.in_flight is not None)
    @rule(skipped=st.integers(0, 3))
    def acknowledge(self, skipped: int) -> None:
        batch, sequence = self.buffer.in_flight, self.buffer.sequence
        assert batch is not None
        sequence.jump(sequence.last + skipped)  # another writer was faster
        batch.first = sequence.reserve(batch.count)
        sequence.commit()
        self.log.update(enumerate(batch.body.split(b"\n"), batch.first))
        lines = [chunk for chunk, _write in self.expected[: batch.count]]
        assert batch.body.split(b"\n") == lines
        del self.expected[: batch.count]
        self.buffer.acknowledge()

    @precondition(lambda self: self.buffer.in_flight is not None)
    @rule()
    def give_up(self) -> None:
        batch = self.buffer.give_up(LOST)
        assert all(write.future.done() for write, _count, _end in batch.writes)
        del self.expected[: batch.count]
        self.buffer.fail_flushes(LOST)

    @rule()
    def suspend(self) -> None:
        flying = self.buffer.in_flight.count if self.buffer.in_flight else 0
        behind = self.expected[flying:]
        before = {id(write): write.lost for write, _chunks in self.writes}
        for write in self.buffer.withdraw_unsent():
            assert write.lost == before[id(write)] + sum(one is write for _chunk, one in behind)
            write.fail(LOST)
        self.expected[flying:] = [(chunk, write) for chunk, write in behind if write is None]
        self.buffer.fail_flushes(LOST)

    @invariant()
    def holds_what_is_expected(self) -> None:
        buffer = self.buffer
        batches = [*([buffer.in_flight] if buffer.in_flight else []), *buffer.batches]
        assert buffer.chunks == len(self.expected)
        assert buffer.empty == (not self.expected)
        assert all(0 < batch.count <= buffer.max_count for batch in batches)
        closed = [line for batch in batches for line in batch.body.split(b"\n")]
        assert closed == [chunk for chunk, _write in self.expected[: len(closed)]]
        assert buffer.size == sum(len(batch.body) for batch in batches) + buffer.open.size

    @invariant()
    def tells_the_truth(self) -> None:
        waiting = {chunk for chunk, _write in self.expected}
        for write, chunks in self.writes:
            result: Any = write.future.result
            if isinstance(result, int):
                assert self.log[result] == chunks[-1]
            elif result is None:
                assert not waiting.isdisjoint(chunks), "it waits for nothing"
        for future, chunks in self.flushes:
            if future.result is None:
                assert not waiting.isdisjoint(chunks), "it waits for nothing"
            elif future.result is True:
                assert waiting.isdisjoint(chunks), "it did not wait"


Buffering.TestCase.settings = settings(stateful_step_count=30)
TestBuffering = Buffering.TestCase


@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=20))
def test_batches_are_not_larger_than_they_need_be(sizes: list[int]) -> None:
    buffer = WriteBuffer(0)
    for size in sizes:
        buffer.add(b"x" * size)
    buffer.close_batch()
    assert [len(line) for batch in buffer.batches for line in batch.body.split(b"\n")] == sizes
    assert all(len(batch.body) < (1 << 16) + 30_000 for batch in buffer.batches)
