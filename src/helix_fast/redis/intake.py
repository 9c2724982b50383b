"""What a process has given for a stream that is not stored yet: the open batch, and the sealed ones behind it."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Final

from helix_fast import codec
from helix_fast.errors import HelixError
from helix_fast.transport.observer import Observed

from .batch import Sealed, Write

MAX_BATCH_BYTES: Final = 64 << 10
MAX_BATCH_CHUNKS: Final = 4096


class Intake:
    """The queue of an appender, and who waits for it.

    Args:
        nonce: 4 characters that tell this appender's batches from others'; a batch's number makes them 8.
        max_length: chunks that the stream keeps, 0 for all: a batch has at most a small part of that.
    """

    def __init__(self, nonce: bytes, max_length: int) -> None:
        self.nonce = nonce
        self.batch = codec.Batch()
        self.max_count = max(1, min(MAX_BATCH_CHUNKS, max_length // 25)) if max_length else MAX_BATCH_CHUNKS
        self._writes: list[tuple[Write, int, int]] = []
        self._queue: deque[Sealed] = deque()
        self._flight: Sealed | None = None
        self._batches = secrets.randbelow(1 << 24)
        self._given = 0
        self._settled = 0
        self._flushes: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._observed: Observed | None = None  # of the last batch, where somebody watches

    @property
    def buffered_bytes(self) -> int:
        """Bytes not yet acknowledged."""
        flight = len(self._flight.body) if self._flight else 0
        return self.batch.size + flight + sum(len(sealed.body) for sealed in self._queue)

    @property
    def in_flight(self) -> Sealed | None:
        """The batch whose fate is open."""
        return self._flight

    @property
    def unawaited(self) -> bool:
        """Whether chunks are there that were sent without waiting."""
        batches = [*([self._flight] if self._flight else []), *self._queue]
        return any(batch.count > sum(count for _write, count, _end in batch.writes) for batch in batches)

    def next_nonce(self, count: int) -> bytes:
        """Number another batch, of ``count`` chunks."""
        self._given += count
        self._batches += 1
        return self.nonce + b"%04x" % (self._batches & 0xFFFF)

    def seal(self) -> None:
        """Close the open batch."""
        count = self.batch.count
        if count:
            nonce = self.next_nonce(count)
            self._queue.append(Sealed(self.batch.take(), count, self._writes, nonce))
            self._writes = []

    def take_back(self) -> dict[int, Write]:
        """Take the awaited writes out of the queue, unsent; the rest stays. Returns them and those in flight.

        The batch in flight is left alone, since it may have been stored.
        """
        self.seal()
        taken: dict[int, Write] = {}
        if self._flight is not None:
            taken.update((id(write), write) for write, _count, _end in self._flight.writes)
        kept: deque[Sealed] = deque()
        for batch in self._queue:
            for write, count, _end in batch.writes:
                taken.setdefault(id(write), write).lost += count
            lines = batch.lines(awaited=False)
            self._given -= batch.count - len(lines)
            if lines:
                kept.append(Sealed(b"\n".join(lines), len(lines), [], batch.nonce))
        self._queue = kept
        return taken

    def clear(self) -> list[Sealed]:
        """Empty the queue, the batch in flight included; returns what was in it."""
        self.seal()
        batches = [*([self._flight] if self._flight else []), *self._queue]
        self._flight = None
        self._queue.clear()
        return batches

    def tell_flushes(self, error: HelixError) -> bool:
        """Tell whoever waits for a flush why it cannot be; returns whether anyone did."""
        heard = False
        if self._observed is not None:
            self._observed.done(error)
        for _target, future in self._flushes:
            if not future.done():
                future.set_exception(error)
                heard = True
        self._flushes.clear()
        return heard

    def settle_flushes(self) -> None:
        """Wake whoever waited for what is stored now."""
        flushes = self._flushes
        while flushes and flushes[0][0] <= self._settled:
            future = flushes.popleft()[1]
            if not future.done():
                future.set_result(None)
