"""The write buffer of one stream: the batch in flight, closed batches waiting to be sent, then the open one.

Pure bookkeeping: no event loop, no connection. Its caller decides when a batch is sent, and says what became of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from helix_fast import codec
from helix_fast.codec import MAX_BATCH_BYTES, Batch, Write
from helix_fast.errors import HelixError

if TYPE_CHECKING:
    from asyncio import Future

MAX_BATCH_CHUNKS: Final = 4096


def batch_limit(max_length: int) -> int:
    """Chunks of a batch at most: 4 % of the length to which its stream is trimmed, as trimming drops whole batches."""
    return max(1, min(MAX_BATCH_CHUNKS, max_length // 25)) if max_length else MAX_BATCH_CHUNKS


class WriteBuffer:
    """Chunks of one stream that are not acknowledged yet.

    Args:
        last: the stream's last sequence.
        max_length: chunks that the stream keeps, 0 for all: a batch has at most a small part of that.

    Attributes:
        sequence: the sequencer of the stream.
        open: gathers chunks for the next batch.
        batches: closed batches that were never sent, oldest first; always the same deque.
        in_flight: the batch whose outcome is open: sent, or about to be.
        flushes: (value of ``acknowledged`` at which it is done, future) of each waiting flush, in order.
        acknowledged: counts stored chunks, at least while a flush waits.
        discarded: chunks that ``clear`` took out.
        max_count: chunks of a batch at most.
    """

    __slots__ = (
        "_awaited", "acknowledged", "batches", "discarded", "flushes", "in_flight", "max_count", "open", "sequence",
    )  # fmt: skip

    def __init__(self, last: int, max_length: int = 0) -> None:
        self.max_count: int = batch_limit(max_length)
        self.sequence: codec.Sequencer = codec.Sequencer(last)
        self.open: codec.BatchBuilder = codec.BatchBuilder()
        self.batches: deque[Batch] = deque()
        self.in_flight: Batch | None = None
        self.flushes: deque[tuple[int, Future[None]]] = deque()
        self.acknowledged: int = 0
        self.discarded: int = 0
        self._awaited: list[tuple[Write, int, int]] = []

    # what it holds

    def _unacknowledged(self) -> list[Batch]:
        return [*([self.in_flight] if self.in_flight is not None else []), *self.batches]

    @property
    def empty(self) -> bool:
        """Whether every chunk is acknowledged."""
        return self.in_flight is None and not self.batches and not self.open.count

    @property
    def chunks(self) -> int:
        """Chunks that are not acknowledged."""
        return self.open.count + sum(batch.count for batch in self._unacknowledged())

    @property
    def size(self) -> int:
        """Bytes that are not acknowledged."""
        return self.open.size + sum(len(batch.body) for batch in self._unacknowledged())

    @property
    def has_unawaited(self) -> bool:
        """Whether a closed batch has chunks that no awaited write waits for."""
        return any(batch.count > sum(count for _write, count, _end in batch.writes) for batch in self._unacknowledged())

    # chunks in

    def add(self, chunk: bytes) -> None:
        """Add a chunk that nobody waits for. Raises as ``BatchBuilder.add``."""
        if self.open.add(chunk) >= MAX_BATCH_BYTES or self.open.count >= self.max_count:
            self.close_batch()

    def add_awaited(self, write: Write, chunks: Sequence[bytes]) -> None:
        """Add chunks of an awaited write; they may need several batches."""
        builder, here = self.open, 0
        add, most = builder.add, self.max_count - builder.count
        for chunk in chunks:
            here += 1
            if add(chunk) >= MAX_BATCH_BYTES or here >= most:
                self._awaited.append((write, here, builder.count))
                here, most = 0, self.max_count
                self.close_batch()
        if here:
            self._awaited.append((write, here, builder.count))

    def close_batch(self) -> None:
        """Close the open batch; what is added next begins another one."""
        count = self.open.count
        if count:
            self.batches.append(Batch(self.open.take(), count, self._awaited, b""))
            self._awaited = []

    def replace(self, before: Write, write: Write) -> None:
        """A failed write was repeated: the repetition waits for the batch in flight in its place."""
        if self.in_flight is not None:
            writes = self.in_flight.writes
            self.in_flight.writes = [(write if each is before else each, n, end) for each, n, end in writes]

    # batches out

    def next_batch(self) -> Batch | None:
        """The batch in flight; where there is none, the next one is put in flight. None: nothing waits."""
        if self.in_flight is None:
            if not self.batches:
                self.close_batch()
            if self.batches:
                self.in_flight = self.batches.popleft()
        return self.in_flight

    def acknowledge(self) -> None:
        """The batch in flight is stored from its ``first`` on: wake its writes, and the flushes that waited for it."""
        batch = self._remove_in_flight()
        for write, count, end in batch.writes:
            write.acknowledge(count, batch.first + end - 1)
        while self.flushes and self.flushes[0][0] <= self.acknowledged:
            future = self.flushes.popleft()[1]
            if not future.done():
                future.set_result(None)

    def give_up(self, error: HelixError) -> Batch:
        """Drop the batch in flight, whose outcome cannot be known, and fail its writes."""
        batch = self._remove_in_flight()
        for write, _count, _end in batch.writes:
            write.fail(error)
        return batch

    def _remove_in_flight(self) -> Batch:
        batch = self.in_flight
        assert batch is not None
        self.in_flight = None
        self.acknowledged += batch.count
        return batch

    def withdraw_unsent(self, *, refused: bool = False) -> list[Write]:
        """Take the chunks of awaited writes out of the batches that were never sent.

        The batch in flight stays, since it may be stored, unless it was ``refused``. Chunks that nobody waits for stay.

        Returns:
            The writes that were withdrawn (``lost`` counts their chunks) and those that wait for the batch in flight.
        """
        self.close_batch()
        writes: dict[int, Write] = {}
        if self.in_flight is not None:
            writes.update((id(write), write) for write, _count, _end in self.in_flight.writes)
        unsent = list(self.batches)
        if refused and self.in_flight is not None:
            unsent.insert(0, self.in_flight)
            self.in_flight = None
        self.batches.clear()
        for batch in unsent:
            for write, count, _end in batch.writes:
                writes.setdefault(id(write), write).lost += count
            lines = batch.lines(awaited=False)
            if lines:
                self.batches.append(Batch(b"\n".join(lines), len(lines), [], b""))
        return list(writes.values())

    def clear(self) -> list[Batch]:
        """Take everything out, the batch in flight included."""
        self.close_batch()
        batches = self._unacknowledged()
        self.in_flight = None
        self.batches.clear()
        self.discarded += sum(batch.count for batch in batches)
        return batches

    # flushes

    def add_flush(self, future: Future[None]) -> None:
        """Have a future resolved when all that is in the buffer now is stored."""
        self.flushes.append((self.acknowledged + self.chunks, future))

    def fail_flushes(self, error: HelixError) -> bool:
        """Fail all waiting flushes; whether anybody waited."""
        waiting = [future for _target, future in self.flushes if not future.done()]
        self.flushes.clear()
        for future in waiting:
            future.set_exception(error)
        return bool(waiting)
