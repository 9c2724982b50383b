"""What an appender queues: batches whose bytes are fixed, and the awaited writes whose chunks are in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

MAX_RAISED = 4096


class Write:
    """One awaited write: of ``count`` chunks, ``acked`` are stored; ``last`` is the sequence of the last of them."""

    __slots__ = ("acked", "count", "fresh", "future", "last", "lost", "original", "owner", "task")

    def __init__(self, original: object, count: int, future: asyncio.Future[int], owner: object = None) -> None:
        self.owner = owner  # the writer that was called
        self.task: asyncio.Task[object] | None = None  # that called it, known once it has raised
        self.fresh = True  # its writer has not written anything else since it raised
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


class Raised:
    """The writes that raised and whose chunks may be stored: a repeated call takes over what became of them.

    A repeat is known by its chunk objects, whatever other tasks wrote meanwhile; by equal chunks only as the next thing
    that its writer does, since equal chunks (tokens!) come again and mean something else. A task that writes another
    chunk has given the first one up: the same object may come again from it, and is then meant as a new chunk.
    """

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def add(self, writes: Iterable[Write]) -> None:
        """These raised."""
        known = {id(write) for write in self.writes}
        self.writes = [*self.writes, *(write for write in writes if id(write) not in known)][-MAX_RAISED:]

    def drop(self, writes: Iterable[Write]) -> None:
        """What became of these cannot be known any more."""
        over = {id(write) for write in writes}
        self.writes = [write for write in self.writes if id(write) not in over]

    def take(self, write: Write) -> Write | None:
        """The one that ``write`` repeats, if it repeats one."""
        found = next((before for before in self.writes if _identical(before.original, write.original)), None)
        if found is None:
            mine = [before for before in self.writes if before.owner is write.owner and before.fresh]
            found = next((before for before in mine if before.original == write.original), None)
            if found is None:
                for before in mine:
                    before.fresh = False
                self.writes = [before for before in self.writes if before.task is not write.task]
                return None
        self.writes.remove(found)
        return found


def _identical(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
    return one is other


class Sealed:
    """A batch whose bytes are fixed. One of a single awaited chunk names its write in ``only``, to save a list."""

    __slots__ = ("_writes", "body", "count", "doubtful", "first", "nonce", "only", "sent")

    def __init__(
        self,
        body: bytes,
        count: int,
        writes: list[tuple[Write, int, int]] | None,
        nonce: bytes,
        only: Write | None = None,
    ) -> None:
        self.body = body
        self.count = count
        self.only = only
        self._writes = writes
        self.nonce = nonce
        self.first = 0
        self.sent = False  # whether it was ever sent
        self.doubtful = False  # whether the reply to an attempt was lost

    @property
    def writes(self) -> list[tuple[Write, int, int]]:
        """(write, its chunks in the batch, end of them in the batch) of each awaited write."""
        if self.only is not None:
            return [(self.only, 1, 1)]
        return self._writes or []

    @writes.setter
    def writes(self, writes: list[tuple[Write, int, int]]) -> None:
        self.only, self._writes = None, writes

    def lines(self, *, awaited: bool) -> list[bytes]:
        """The chunks that were given to an awaited write, or those that were not."""
        mine: set[int] = set()
        for _write, count, end in self.writes:
            mine.update(range(end - count, end))
        return [line for n, line in enumerate(self.body.split(b"\n")) if (n in mine) == awaited]
