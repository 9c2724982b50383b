"""A stream's sequences, in plain Python: those of its writer, and those that a reader has seen."""

from __future__ import annotations

from typing import final

from .arguments import U64_MAX, u64


@final
class Sequencer:
    """Numbers the chunks of a writer: at most one range is in flight. Owned by one thread at a time."""

    __slots__ = ("_in_flight", "_last")

    def __init__(self, last: int = 0) -> None:
        self._last = u64(last, "last")
        self._in_flight = 0

    @property
    def last(self) -> int:
        """Last sequence known to be part of the stream."""
        return self._last

    def reserve(self, count: int) -> int:
        """Put the next `count` sequences in flight; returns the first."""
        count = u64(count, "count")
        if count < 1:
            raise ValueError("count must be at least 1")
        if self._in_flight:
            raise RuntimeError("a range is in flight already")
        if self._last + count > U64_MAX:
            raise OverflowError(f"the last sequence is above {U64_MAX}")
        self._in_flight = count
        return self._last + 1

    def commit(self) -> int:
        """The range in flight was stored; returns its last sequence."""
        if not self._in_flight:
            raise RuntimeError("no range is in flight")
        self._last += self._in_flight
        self._in_flight = 0
        return self._last

    def rollback(self) -> None:
        """The range in flight was not stored: its sequences are free again."""
        self._in_flight = 0

    def jump(self, last: int) -> None:
        """Another writer moved the stream to `last`; drops the range in flight."""
        last = u64(last, "last")
        if last < self._last:
            raise ValueError(f"a stream does not go back: {last} is below {self._last}")
        self._last = last
        self._in_flight = 0


@final
class Window:
    """Sequences that a reader has seen: finds gaps and duplicates. Owned by one thread at a time."""

    __slots__ = ("_last",)

    def __init__(self, after: int = 0) -> None:
        self._last = u64(after, "after")

    @property
    def last(self) -> int:
        """Sequence last seen."""
        return self._last

    def offer(self, first: int, last: int) -> int:
        """Chunks to skip of an entry of first..last; -1: all were seen, -2: there is a gap before it."""
        first, last = u64(first, "first"), u64(last, "last")
        if first < 1 or last < first:
            raise ValueError("a range starts at 1 or later and does not end before it starts")
        if last <= self._last:
            return -1
        if first > self._last + 1:
            return -2
        seen = self._last - first + 1
        self._last = last
        return seen
