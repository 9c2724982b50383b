"""What a process has given for a stream that is not stored yet: the open batch, and the sealed ones behind it."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Final

from helix_fast import codec
from helix_fast.codec import Sealed, Write
from helix_fast.errors import HelixError
from helix_fast.keys import StreamKeys
from helix_fast.transport.topology import Topology

from .failed_writes import Raised
from .terms import Terms

MAX_BATCH_CHUNKS: Final = 4096


def batch_limit(max_length: int) -> int:
    """Chunks of a batch at most: 4 % of the length to which its stream is trimmed, as trimming drops whole batches."""
    return max(1, min(MAX_BATCH_CHUNKS, max_length // 25)) if max_length else MAX_BATCH_CHUNKS


class Intake(codec.StraightAppender):
    """The queue of an appender, and who waits for it.

    Args:
        linger: seconds for which chunks that nobody waits for are gathered.
        nonce: 4 characters that tell this appender's batches from others'; a batch's number makes them 8.
        max_length: chunks that the stream keeps, 0 for all: a batch has at most a small part of that.
    """

    def __init__(
        self, stream_id: str, topology: Topology, keys: StreamKeys, terms: Terms, last: int, nonce: bytes,
        max_length: int, linger: float,
    ) -> None:  # fmt: skip
        # Kept, since asking for the running loop asks the kernel for the process's id on Python before 3.12.
        self._loop = asyncio.get_running_loop()
        framer = codec.AppendFramer(keys.stream, keys.channel, topology.publish)
        max_count = batch_limit(max_length)
        super().__init__(
            stream_id, topology, framer, terms, last, nonce, max_length, max_count, linger,
            self._loop.create_future, self._loop.call_soon,
        )  # fmt: skip
        self.batches = secrets.randbelow(1 << 24)
        self.queue = deque()
        self.flushes = deque()
        self.raised = Raised()
        self._writes: list[tuple[Write, int, int]] = []

    @property
    def buffered_bytes(self) -> int:
        """Bytes not yet acknowledged."""
        flight = len(self.flight.body) if self.flight else 0
        return self.batch.size + flight + sum(len(sealed.body) for sealed in self.queue)

    @property
    def unawaited(self) -> bool:
        """Whether chunks are there that were sent without waiting."""
        batches = [*([self.flight] if self.flight else []), *self.queue]
        return any(batch.count > sum(count for _write, count, _end in batch.writes) for batch in batches)

    def seal(self) -> None:
        """Close the open batch; see the base class."""
        count = self.batch.count
        if count:
            self.given += count
            self.queue.append(Sealed(self.batch.take(), count, self._writes, self.next_nonce()))
            self._writes = []

    def take_back(self) -> dict[int, Write]:
        """Take the awaited writes out of the queue, unsent; the rest stays. Returns them and those in flight.

        The batch in flight is left alone, since it may have been stored.
        """
        self.seal()
        taken: dict[int, Write] = {}
        if self.flight is not None:
            taken.update((id(write), write) for write, _count, _end in self.flight.writes)
        kept: deque[Sealed] = deque()
        for batch in self.queue:
            for write, count, _end in batch.writes:
                taken.setdefault(id(write), write).lost += count
            lines = batch.lines(awaited=False)
            self.given -= batch.count - len(lines)
            if lines:
                kept.append(Sealed(b"\n".join(lines), len(lines), [], batch.nonce))
        self.queue = kept
        return taken

    def clear(self) -> list[Sealed]:
        """Empty the queue, the batch in flight included; returns what was in it."""
        self.seal()
        batches = [*([self.flight] if self.flight else []), *self.queue]
        self.flight = None
        self.queue.clear()
        return batches

    def tell_flushes(self, error: HelixError) -> bool:
        """Tell whoever waits for a flush why it cannot be; returns whether anyone did."""
        heard = False
        if self.observed is not None:
            self.observed.done(error)
        for _target, future in self.flushes:
            if not future.done():
                future.set_exception(error)
                heard = True
        self.flushes.clear()
        return heard

    def settle_flushes(self) -> None:
        """Wake whoever waited for what is stored now."""
        flushes = self.flushes
        while flushes and flushes[0][0] <= self.settled:
            future = flushes.popleft()[1]
            if not future.done():
                future.set_result(None)
