"""What an appender queues: batches whose bytes are fixed, and the awaited writes whose chunks are in them."""

from __future__ import annotations

import asyncio


class Write:
    """One awaited write: of ``count`` chunks, ``acked`` are stored; ``last`` is the sequence of the last of them."""

    __slots__ = ("acked", "count", "future", "last", "lost", "original")

    def __init__(self, original: object, count: int, future: asyncio.Future[int]) -> None:
        self.original = original  # what the caller passed: a repeated call is recognised by it
        self.count = count
        self.future = future
        self.acked = 0
        self.last = 0
        self.lost = 0  # chunks that were taken back unsent after a failure

    def settle(self, chunks: int, last: int) -> None:
        """``chunks`` more of it are stored, the last of them at ``last``."""
        self.acked += chunks
        self.last = last
        if self.acked == self.count and not self.future.done():
            self.future.set_result(last)

    def fail(self, error: BaseException) -> None:
        """Tell the caller, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)


class Sealed:
    """A batch whose bytes are fixed. ``writes`` are (write, its chunks in the batch, end of them in the batch)."""

    __slots__ = ("body", "count", "doubtful", "first", "nonce", "sent", "writes")

    def __init__(self, body: bytes, count: int, writes: list[tuple[Write, int, int]], nonce: bytes) -> None:
        self.body = body
        self.count = count
        self.writes = writes
        self.nonce = nonce
        self.first = 0
        self.sent = False  # whether it was ever sent
        self.doubtful = False  # whether the reply to an attempt was lost

    def lines(self, *, awaited: bool) -> list[bytes]:
        """The chunks that were given to an awaited write, or those that were not."""
        mine: set[int] = set()
        for _write, count, end in self.writes:
            mine.update(range(end - count, end))
        return [line for n, line in enumerate(self.body.split(b"\n")) if (n in mine) == awaited]
